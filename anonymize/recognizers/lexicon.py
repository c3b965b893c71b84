"""Words that are no names although they stand where names stand, and common given names.

Given names: the most frequent ones of the US Social Security Administration's public lists, less
those that are also everyday or clinical words (Grace, Mark, Will, May, Frank, Rose ...).
"""

from __future__ import annotations

NOT_NAMES = frozenset(
    """
    a about abdomen abdominal able above absent acute additional admission admit admitted after age
    aged agrees all allergic allergies allergy also alert am an and any appears appointment are as
    assessment at attending awake aware back bed been before being below bid bilateral birth blood
    bowel brain breast but by called came can cardiac cardiology cardiovascular care caregiver case
    cc center chart chest chief child clear clinic clinical closely clinician code complains
    complaint complaints complete comments condition conscious consent consult consultation contact
    continue continues consented cooperative course cover current currently daily data date daughter
    dear deceased decline declined denied denies department dept description details developed
    diabetes diagnosed diagnosis diagnostic diagnoses died diet discharge discharged discussed
    discontinue disease disposition distress did do does dob doctor doing dose dr drug due during
    ear education emergency encounter endorses er evaluation exam examination extremities
    eye eyes facility failed family father feels female fever findings first follow following for
    found friend from full further gait gastrointestinal gave general genitourinary gentleman given
    group guardian had has have he head health healthy heart heent her here him his history home
    hospital hospice hours how however hpi husband icu id if ill illness imaging impression improved
    in indicated indication infant information informed initial insurance interpreter interval into
    intact is it its lab laboratory labs lady last left level likely living location lower lung lungs
    male man management may md mechanism med medical medication medications medicine mental met mild
    moderate mom mother mrn musculoskeletal name nausea neck negative neuro neurologic neurological
    neurology new no non none normal not note notes notified now nursing nurse objective observed
    obstetric of off office old on once one only operation operative or oral oriented other our out
    outpatient over own oxygen page pain past pathology patient patients pediatric pelvis per
    performed pending pharmacy phone physical physician physicians plan pleasant please pm pmh
    positive possible post postoperative pre prepared presented presenting presents present previous
    primary principal prior problem problems procedure procedures progress progressing provided
    provider psychiatric psychiatry psych pt pulmonary radiology reason received recent
    recommend recommendation recommendations reconciliation record recovering referral referred
    referring regular related relationship remains report reported reports requested required
    resident respiratory response result results return returned returns review reviewed right risk
    room routine same scheduled seen self service services severe she should side signature signed
    since skin sleep smoker social son specialist specimen spouse stable staff started state stated
    states status still subjective summary supportive surgeon surgery surgical symptoms taken takes
    team test testing tests that the their them then therapy there these they this those through
    time to today tolerated tolerating took transferred treated treatment type under unable
    underwent unit unknown unremarkable upper urgent us use used verbal verbalized verbalizes
    verified visit vital vitals was weight well went were what when where which while white who wife
    will with within without woman work x-ray year years yes you your
    mr mrs ms miss mx prof rev aunt uncle brother sister cousin niece nephew grandmother grandfather
    grandson granddaughter partner fiance fiancee girlfriend boyfriend neighbor roommate dad
    monday tuesday wednesday thursday friday saturday sunday january february march april june july
    august september october november december
    alzheimer alzheimers parkinson parkinsons crohn crohns hodgkin hodgkins down bell graves hashimoto
    huntington raynaud addison cushing marfan turner klinefelter tourette wilson barrett
    foley hickman doppler holter babinski romberg glasgow apgar murphy mcburney homans kernig
    aspirin tylenol ibuprofen lisinopril metformin insulin warfarin heparin lasix lipitor plavix
    zoloft prozac xanax ativan norco percocet vicodin morphine fentanyl amoxicillin penicillin
    vitamin hepatitis type stage grade class english spanish american african hispanic caucasian
    asian black native indian european latino latina christian jewish muslim catholic
    hypertension asthma copd pneumonia cancer diarrhea vomiting headache dizziness cough rash
    fatigue edema anxiety depression stroke seizure fracture infection sepsis anemia obesity
    associated above-mentioned signature: copy copied electronically dictated transcribed authored
    cardiologist neurologist oncologist radiologist pathologist psychiatrist psychologist urologist
    anesthesiologist gastroenterologist dermatologist hospitalist intern fellow
    street avenue road drive lane boulevard city county zip address
    """.split()
)

GIVEN_NAMES = frozenset(
    """
    jack sam tom stan tim timmy dan ben matt mike nick andy ted ed ken ron don jon kate liz meg pam
    hank walt anya bob bobby rob jeanie emilio fatima ahmed ali hassan mei wei raj ravi sanjay anil
    aaron abigail adam adrian agnes aidan aiden alan albert alejandro alex alexander alexandra
    alexis alfred alice alicia alison allison alyssa amanda amber amelia amy ana andrea andres
    andrew angela angelica anita ann anna anne annette anthony antonio arlene arnold arthur ashley
    audrey austin ava barbara beatrice benjamin bernard bernice bertha beth betty beverly bobby
    bonnie bradley brandon brenda brendan brent brett brian brianna brittany bruce bryan caitlin
    caleb calvin cameron carl carla carlos carmen carol caroline carolyn carrie catherine cathy
    cecilia charlene charles charlotte cheryl chloe christina christine christopher cindy claire
    clara clarence claudia clifford clyde colleen connie constance corey courtney craig crystal
    cynthia daisy dale damian dana daniel danielle darlene darrell darren david deborah debra
    denise dennis derek diana diane diego dolores dominic donald donna doris dorothy douglas
    duane dustin dwayne dylan earl eddie edgar edith edna eduardo edward edwin eileen elaine eleanor
    elena eli elias elijah elizabeth ella ellen eloise elsie emily emma enrique eric erica erik erika
    erin ernest esther ethan ethel eugene eva evan evelyn felicia felix fernando florence
    frances francis francisco fred frederick gabriel gabriela gabrielle gary geoffrey george
    gerald geraldine gertrude gladys glenn gloria gordon greg gregory guadalupe gwendolyn hannah
    harold harriet harry hazel heather hector helen henry herbert herman howard hugo ian ida ignacio
    irene irma isaac isabel isabella isaiah ivan jacob jacqueline jaime james jamie jane janet
    janice jared jasmine jason javier jay jean jeanette jeanne jeff jeffrey jenna jennifer jenny
    jeremiah jeremy jerome jerry jesse jessica jesus jill jim jimmy joan joann joanna joanne joe joel
    johanna john johnny jonathan jordan jorge jose joseph josephine joshua joyce juan juanita judith
    judy julia julian juliana julie julio justin kaitlyn karen karl katherine kathleen kathryn kathy
    katie kayla keith kelly kelsey kenneth kevin kimberly kristen kristin kristina kurt kyle
    lakisha larry latoya laura lauren laurie lawrence leah leo leon leonard leroy leslie lester
    liam lillian linda lindsay lindsey lisa lloyd logan lois lorenzo loretta lori lorraine louis
    louise lucas lucia lucille lucy luis luke luz lydia lynn mabel madeline madison mae malcolm
    manuel marc marcia marco marcus margaret margarita maria mariana marie marilyn mario marion
    marissa marjorie marlene martha martin marvin mary mason matthew maureen maurice max maxine
    megan melanie melinda melissa melvin mercedes meredith mia micah michael michele michelle
    miguel mildred milton minnie miranda miriam misty mitchell mohamed mohammed molly monica monique
    morgan muhammad myrtle nadia nancy naomi natalia natalie natasha nathan nathaniel neil nelson
    nicholas nicole nina noah noel nora norma norman olga oliver olivia omar oscar owen pamela
    patricia patrick paul paula pauline pearl pedro peggy penelope perry peter philip phillip phyllis
    priscilla priya rachel rafael ralph ramon ramona randall randy raquel raul raymond rebecca regina
    renee rhonda ricardo richard rick ricky rita robert roberta roberto rodney roger roland ronald
    ronnie rosa rosalie rosemary roy ruben russell ruth ryan sabrina sally salvador samantha samuel
    sandra sara sarah savannah scott sean sebastian sergio seth shane shannon sharon shawn sheila
    shelby sherry shirley sidney silvia simon sofia sonia sophia sophie stacey stacy stanley stella
    stephanie stephen steve steven stuart susan suzanne sydney sylvia tamara tammy tanya tara tasha
    tatiana taylor teresa terrance terry thelma theodore theresa thomas tiffany timothy tina todd
    tommy toni tracy travis trevor tristan troy tyler tyrone valerie vanessa vera vernon veronica
    victor victoria vincent viola violet virgil virginia vivian wallace walter wanda warren wayne
    wendy wesley wilfred willard william willie wilma xavier yolanda yvette yvonne zachary zoe
    """.split()
)

CITIES = (
    r"(?:New York City|New York|NYC|Los Angeles|Chicago|Houston|Philadelphia|San Antonio|San Diego|Dallas|"
    r"San Jose|Austin|Jacksonville|Fort Worth|Indianapolis|San Francisco|Seattle|Denver|Boston|"
    r"El Paso|Detroit|Nashville|Memphis|Portland|Oklahoma City|Las Vegas|Louisville|Baltimore|"
    r"Milwaukee|Albuquerque|Tucson|Fresno|Sacramento|Kansas City|Atlanta|Omaha|Raleigh|Miami|"
    r"Oakland|Minneapolis|Tulsa|Tampa|New Orleans|Cleveland|Honolulu|Anaheim|Cincinnati|Pittsburgh|"
    r"St\. Louis|Saint Louis|St\. Paul|Orlando|Newark|Buffalo|Palo Alto|Salt Lake City|Brooklyn|"
    r"Manhattan|Bronx|Queens|Rochester|Birmingham|Richmond|Spokane|Des Moines|Boise|Tacoma|"
    r"Cambridge|Worcester|Providence|Hartford|New Haven|Charleston|Savannah|Toronto|Montreal|"
    r"Vancouver|London|Paris|Berlin|Madrid|Rome|Mumbai|Delhi|Beijing|Shanghai|Tokyo|Mexico City)"
)
"""The largest cities of the US and some abroad, less those that are everyday words or names."""

STATES = (
    r"(?:Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|"
    r"Hawaii|Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|"
    r"Michigan|Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|"
    r"New Mexico|New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|Pennsylvania|"
    r"Rhode Island|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|"
    r"West Virginia|Wisconsin|Wyoming|District of Columbia)"
)
STATE_CODES = (
    r"(?:AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|"
    r"NM|NY|NC|ND|OH|OK|OR|PA|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC|PR|VI|GU)"
)
