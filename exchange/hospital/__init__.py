"""The hospital's own house: keys, subjects, publishing, asking and opening.

Runs on the hospital's premises. What enters: identified records, the hospital's keys. What leaves:
de-identified records sealed subject by subject, signed documents, invitations. What never leaves: the
four keys, the map from record number to subject, the codes (they go to patients out of band).

==============  ==================================================================
``identity``    the four keys, the signed card, what was pinned of the exchange
``subjects``    the map from record number to subject, codes included
``client``      HTTP to the exchange, as this hospital
``intake_form`` how files on disk become records grouped by subject
``publish``     de-identify, check, seal, sign, upload
``receive``     open a release, subject by subject, and believe only its trailer
``encrypted``   encrypt for a model, decrypt what came back
``cli``         ``assent hospital …``
==============  ==================================================================
"""
