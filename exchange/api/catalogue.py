"""HTTP of the catalogue: hospitals announce, publish and find datasets."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field

from exchange.api.auth import HospitalActor, House, KnownActor, OnceActor
from exchange.api.reading import Body, Cursor, Signature
from exchange.api.uploads import handed_over
from exchange.errors import BodyTooLarge
from ledger.ids import DatasetId
from ledger.signing import from_hex

router = APIRouter(prefix="/v1", tags=["catalogue"])

_MOST_KEYS = 64 << 20
Dataset = Annotated[str, Path(pattern=r"^0x[0-9a-f]{32}$")]
Version = Annotated[int, Path(ge=1, le=2**31 - 1)]


class DatasetBody(Body):
    """What a dataset is about."""

    title: Annotated[str, Field(max_length=200)]
    description: Annotated[str, Field(max_length=4000)] = ""
    kind: str
    categories: list[str]


class VersionBody(Body):
    """A signed manifest, and the report that it commits to."""

    manifest: dict[str, Any]
    signature: Signature
    report: dict[str, Any]


@router.post("/datasets", operation_id="create_dataset", status_code=201)
def create(
    house: House, actor: HospitalActor, once: OnceActor, body: DatasetBody
) -> dict[str, str]:
    """Announce a dataset; it can be found once a version of it is published."""
    dataset = house.catalogue.create(
        actor,
        once,
        title=body.title,
        description=body.description,
        form=body.kind,
        categories=body.categories,
    )
    return {"dataset": dataset.hex}


@router.get("/datasets", operation_id="find_datasets")
def find(
    house: House,
    _actor: KnownActor,
    text: Annotated[str, Query(max_length=200)] = "",
    kind: Annotated[str | None, Query(max_length=20)] = None,
    category: Annotated[str | None, Query(max_length=20)] = None,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Published datasets; counts are rounded, and missing below 11."""
    page = house.catalogue.search(text=text, form=kind, category=category, cursor=cursor)
    return {"items": page.items, "next": page.next}


@router.get("/hospital/datasets", operation_id="own_datasets")
def own(house: House, actor: HospitalActor) -> dict[str, Any]:
    """Every version of the hospital's own datasets, with status, report and quality."""
    return {"items": house.catalogue.own(actor)}


@router.get("/datasets/{dataset}", operation_id="describe_dataset")
def describe(house: House, _actor: KnownActor, dataset: Dataset) -> dict[str, Any]:
    """One published dataset."""
    return house.catalogue.describe(DatasetId.parse(dataset))


@router.post("/datasets/{dataset}/versions", operation_id="draft_version", status_code=201)
def draft(
    house: House, actor: HospitalActor, once: OnceActor, dataset: Dataset, body: VersionBody
) -> dict[str, int]:
    """Hand in a signed manifest; keys and content follow."""
    version = house.catalogue.draft(
        actor,
        DatasetId.parse(dataset),
        body.manifest,
        from_hex(body.signature, 64),
        body.report,
        claim=once,
    )
    return {"version": version}


@router.put(
    "/datasets/{dataset}/versions/{version}/keys", operation_id="deposit_keys", status_code=204
)
async def deposit(
    request: Request, house: House, actor: HospitalActor, dataset: Dataset, version: Version
) -> None:
    """Hand the sealed key list through to the keys process; it is stored nowhere else."""
    identity = DatasetId.parse(dataset)

    def take(pieces: Any) -> None:
        house.catalogue.expects_keys(actor, identity, version)
        sealed = bytearray()
        for piece in pieces:
            sealed += piece
            if len(sealed) > _MOST_KEYS:
                raise BodyTooLarge(_MOST_KEYS)
        house.keys.deposit(identity, version, bytes(sealed))

    await handed_over(request, take)


@router.put(
    "/datasets/{dataset}/versions/{version}/content", operation_id="put_content", status_code=204
)
async def content(
    request: Request, house: House, actor: HospitalActor, dataset: Dataset, version: Version
) -> None:
    """Stream the sealed parts; length and SHA-256 must be the manifest's. Then intake begins."""
    identity = DatasetId.parse(dataset)
    await handed_over(
        request, lambda pieces: house.catalogue.receive(actor, identity, version, pieces)
    )


@router.get("/datasets/{dataset}/versions/{version}", operation_id="version_status")
def status(
    house: House, actor: HospitalActor, dataset: Dataset, version: Version
) -> dict[str, Any]:
    """One of the hospital's own versions: status, report, quality."""
    return house.catalogue.status(actor, DatasetId.parse(dataset), version)
