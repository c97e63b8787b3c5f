"""A round in S3: what each index puts there, what the gatherer makes of it, and what it refuses to believe."""

import io
import json
import re
from datetime import UTC, datetime
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lib.bundle import archive
from lib.crypto import certificates
from lib.errors import AwsError, BundleError
from lib.fleet import gather, prove, reports
from lib.fleet.gather import LATE, MISSING, PROVED, RED, UNTRUSTED
from lib.fleet.model import Fleet, Round, round_of
from tests.support import time_stamps
from tests.support.stub_fleet import DAY, KEY, PUBLIC, S3_FAULTS, a_round, asking, calls, faulty, recorded, with_hole
from tests.support.time_stamps import clock

ROLE = "arn:aws:iam::123456789012:role/fleet"


@pytest.fixture(scope="module")
def bucket(empty_s3):
    empty_s3.create_bucket(Bucket="proofs")
    return empty_s3


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of a whole cluster's bundle, named one, in the round of 2026-01-02."""
    one = a_round("s3://proofs/x", "one")
    folder = tmp_path_factory.mktemp("good")
    return prove.bundle(
        one, one.clusters[0], asking()(one.clusters[0], None), prove.now(), float, KEY, folder
    ).read_bytes()


def gathered(s3, one, now=None, late_after=DAY, reasons=None, keys=PUBLIC):
    found = gather.stored(s3, one.place)
    return gather.gather(one, found, s3, keys, late_after, now or datetime.now(UTC), reasons or {})


def proved(s3, one, tmp_path, /, **found):
    for member in one.clusters:
        prove.prove(one, member, asking(found.get(member.name)), s3, KEY, tmp_path / one.round / member.name)


def put(s3, one, data, name="one"):
    """Put any bytes as a cluster's bundle; return its row."""
    prefix = archive.bucket_and_key(one.target, f"{name}.zip")[1]
    s3.put_object(Bucket="proofs", Key=prefix, Body=data)
    return next(row for row in gathered(s3, one) if row.name == name)


def test_a_round_is_a_matrix_worst_first_with_what_changed(bucket, tmp_path):
    first = a_round("s3://proofs/a", "one", "two", "three", "old", id="2026-01-01")
    proved(bucket, first, tmp_path)
    less = [one for one in recorded() if one.id != "A02"]
    one = a_round("s3://proofs/a", "one", "two", "three", "four")
    proved(bucket, a_round("s3://proofs/a", "one", "two"), tmp_path, one=with_hole(recorded()), two=less)
    rows = gathered(bucket, one, reasons={"three": "OOMKilled"})
    assert [(row.name, row.state, row.note) for row in rows] == [
        ("one", RED, ""),
        ("four", LATE, "it left no bundle in this round"),
        ("three", MISSING, "OOMKilled"),
        ("two", PROVED, ""),
    ]
    table = reports.table(rows)
    assert table[0]["red"] == "A01" and (table[0]["IA-2"], table[0]["IA-8"], table[3]["IA-2"]) == ("✗", "✓", "✓")
    before, previous = gather.before(one, gather.stored(bucket, one.place), bucket, PUBLIC, datetime.now(UTC))
    assert (before, len(previous)) == ("2026-01-01", 4)
    changed = reports.changes(previous, rows)
    assert {(change["cluster"], change["what"]) for change in changed} == {
        ("one", "proved is now red"),
        ("one", "A01: 403 R is now 200 app"),
        ("two", "A02 is no longer asked"),
        ("three", "proved is now missing"),
        ("old", "it is no longer in the fleet"),
    }
    assert [change["cluster"] for change in reports.changes([], rows)] == ["one", "two"]
    html, data = reports.write(tmp_path, one, rows, before, changed, datetime.now(UTC))
    page, content = html.read_text(), json.loads(data.read_text())
    assert "1 of 4 clusters are proved, 1 is red, 1 is late, 1 is missing." in " ".join(page.split())
    names = re.findall(r'<th scope="row">(.*?)</th>', page)
    assert names[:4] == ["one", "four", "three", "two"], "worst first"
    table = page.partition("What changed since 2026-01-01")[2]
    told = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)<br>\s*</td>', table, re.S)
    assert told == [
        ("one", "proved is now red<br>A01: 403 R is now 200 app"),
        ("three", "proved is now missing"),
        ("two", "A02 is no longer asked"),
        ("old", "it is no longer in the fleet"),
    ]
    assert [row["state"] for row in content["clusters"]] == [RED, LATE, MISSING, PROVED]
    assert content["changes"] == changed
    assert content["evidence"] | {"IA-2": "2 of 8", "SC-8": "0 of 6", "IA-9": "0 of 6"} == content["evidence"]
    heads = re.findall(r'<th scope="col" title=".*?">(.*?)<br><span class="soft">(.*?)</span></th>', page)
    assert ("IA-2", "2 of 8") in heads and not {"SC-8", "IA-9"} & {*dict(heads)}
    assert "These probes are no evidence of IA-9, SC-8, AC-4" in page


def test_a_bundle_with_fewer_probes_has_fewer_lines_of_evidence(bucket, tmp_path):
    one = a_round("s3://proofs/lines", "one", "two")
    proved(bucket, one, tmp_path, two=[result for result in recorded() if result.id[0] != "B"])
    assert reports.evidence(gathered(bucket, one)) | {"IA-2": "1 of 8"} == reports.evidence(gathered(bucket, one))
    assert {*reports.evidence([]).values()} == {f"0 of {number}" for number in (5, 6, 7, 8)}


def test_an_old_bundle_is_late(bucket, tmp_path):
    one = a_round("s3://proofs/late", "one")
    proved(bucket, one, tmp_path)
    assert [row.state for row in gathered(bucket, one, datetime.now(UTC) + 2 * DAY)] == [LATE]


def test_a_second_index_says_that_another_was_first(bucket, tmp_path):
    one = a_round("s3://proofs/twice", "one")
    proved(bucket, one, tmp_path / "first")
    text = prove.prove(one, one.clusters[0], asking(with_hole(recorded())), bucket, KEY, tmp_path / "second")
    assert text == "s3://proofs/twice/demo/2026-01-02/one.zip exists: another index was first, and its bundle counts."
    assert [row.state for row in gathered(bucket, one)] == [PROVED]


def test_the_calls_of_s3_are_three_a_cluster_and_one_more_to_gather(bucket, tmp_path):
    one = a_round("s3://proofs/calls", "one", "two", "three")
    with calls(bucket) as of_indexes:
        proved(bucket, one, tmp_path)
    assert of_indexes == {"GetObjectLockConfiguration": 3, "PutObject": 3, "HeadObject": 3}
    with calls(bucket) as of_gatherer:
        gathered(bucket, one)
    assert of_gatherer == {"ListObjectsV2": 1, "GetObject": 3}


def rezipped(data, change=lambda name, text: (name, text), more=(), compression=ZIP_STORED):
    """The zip with entries changed or added; it is not signed again."""
    made = io.BytesIO()
    with ZipFile(io.BytesIO(data)) as old, ZipFile(made, "w", compression) as new:
        for entry in old.infolist():
            name, text = change(entry.filename, old.read(entry))
            kept = ZipInfo(name, archive.EPOCH)
            kept.external_attr, kept.compress_type = entry.external_attr, compression
            new.writestr(kept, text)
        for name, attributes in more:
            extra = ZipInfo(name, archive.EPOCH)
            extra.external_attr = attributes
            new.writestr(extra, b"../../etc/passwd")
    return made.getvalue()


LINK = 0o120777 << 16
MANY = [(f"a/{number}", archive.MODE) for number in range(archive.ENTRIES)]
POISONS = {
    "a path upwards": (lambda data: rezipped(data, more=[("a/../../x", archive.MODE)]), "has an entry a/../../x"),
    "an absolute path": (lambda data: rezipped(data, more=[("/etc/x", archive.MODE)]), "has an entry /etc/x"),
    "a link": (lambda data: rezipped(data, lambda n, t: (n, t), [("a/x", LINK)]), "several folders"),
    "only a link": (lambda data: link(), "no regular file"),
    "a bomb": (lambda data: rezipped(data, compression=ZIP_DEFLATED), "compressed, encrypted or no regular file"),
    "no zip": (lambda data: b"<script>alert(1)</script>", "no packed bundle (BadZipFile)"),
    "cut off": (lambda data: data[: len(data) // 2], "no packed bundle (BadZipFile)"),
    "more bytes than it has": (lambda data: swollen(data), "its entries have more bytes than the file"),
    "too many files": (lambda data: rezipped(data, more=MANY), "no packed bundle: it has 10"),
    "huge": (lambda data: bytes(gather.LARGEST + 1), f"more than {gather.LARGEST} bytes"),
    "a changed answer": (lambda data: rezipped(data, lambda n, t: (n, t.replace(b'"A02"', b'"A03"'))), "was changed"),
    "HTML for a check": (lambda data: rezipped(data, lambda n, t: (n, t.replace(b"A02", b"<b>"))), "was changed"),
}


def link():
    made = io.BytesIO()
    with ZipFile(made, "w") as new:
        entry = ZipInfo("a/run.json", archive.EPOCH)
        entry.external_attr = LINK
        new.writestr(entry, b"/etc/passwd")
    return made.getvalue()


def swollen(data):
    """The zip whose directory says that its first file has 64 MiB (APPNOTE 4.3.12)."""
    end = data.rindex(b"PK\x05\x06")
    at = int.from_bytes(data[end + 16 : end + 20], "little") + 24
    return data[:at] + (2**26).to_bytes(4, "little") + data[at + 4 :]


@pytest.mark.parametrize("poison", POISONS)
def test_a_poisoned_bundle_is_a_row_with_its_reason(bucket, good, poison):
    spoil, reason = POISONS[poison]
    one = a_round(f"s3://proofs/{poison.replace(' ', '-')}", "one")
    with calls(bucket) as made:
        row = put(bucket, one, spoil(good))
    assert row.state == UNTRUSTED and reason in row.note
    assert ("GetObject" in made) == (poison != "huge"), "what is too large is not opened"
    assert not row.proofs.controls, "nothing of it counts"


def test_the_same_bundle_is_believed_where_it_belongs_alone(bucket, good):
    here = a_round("s3://proofs/x", "one", "two")
    assert put(bucket, here, good).state == PROVED
    for place, name in ((here, "two"), (a_round("s3://proofs/x", "one", id="2026-01-03"), "one")):
        row = put(bucket, place, good, name)
        assert row.state == UNTRUSTED and "not of this cluster and round" in row.note
    (row, *_) = gathered(bucket, here, keys=[Ed25519PrivateKey.generate().public_key()])
    assert row.state == UNTRUSTED and "not a trusted key" in row.note


def test_a_signed_bundle_without_an_answer_proves_nothing(bucket, tmp_path):
    one = a_round("s3://proofs/empty", "one")
    proved(bucket, one, tmp_path, one=[result for result in recorded() if not result.got])
    (row,) = gathered(bucket, one)
    assert (row.state, row.note) == (UNTRUSTED, "The bundle has no answer of a probe.")


def test_the_page_escapes_what_a_signed_bundle_says(bucket, tmp_path):
    one = a_round("s3://proofs/html", "one")
    bad = [type(r)(**{**vars(r), "id": "A01<i>", "got": "<script>", "verdict": "fail"}) for r in recorded()[:1]]
    proved(bucket, one, tmp_path, one=[*bad, *recorded()[1:]])
    rows = gathered(bucket, one)
    text = reports.page(one, rows, "", [{"cluster": "one", "what": "<script>"}], datetime.now(UTC))
    assert rows[0].state == RED and "A01&lt;i&gt;" in text and "<script" not in text and "<i>" not in text


def test_a_clock_that_is_off_by_a_day_is_a_note(bucket, tmp_path):
    one = a_round("s3://proofs/clock", "one")
    proved(bucket, one, tmp_path)
    found = gather.stored(bucket, one.place)
    place = found[one.round]["one"]
    found[one.round]["one"] = gather.Stored(place.key, place.size, place.at + DAY)
    (row,) = gather.gather(one, found, bucket, PUBLIC, DAY, datetime.now(UTC) + DAY, {})
    assert (row.state, row.note) == (PROVED, "its clock and S3's differ by 24.0 hours")


def test_the_control_clusters_authority_stamps_each_bundle_with_the_time(bucket, tmp_path):
    plain = a_round("s3://proofs/stamped", "one", "three", "two")
    about = {"name": "demo", "control": "x", "bucket": plain.bucket, "clusters": plain.clusters, "role_arn": ROLE}
    with clock() as known:
        made = round_of(Fleet(**about), plain.round, plain.clusters, known)
        one = Round.model_validate_json(made.model_dump_json())
        proved(bucket, one.model_copy(update={"clusters": one.clusters[:1]}), tmp_path)
    proved(bucket, one.model_copy(update={"clusters": one.clusters[2:]}), tmp_path)  # the authority is away
    proved(bucket, plain.model_copy(update={"clusters": one.clusters[1:2]}), tmp_path)
    rows = gathered(bucket, one)
    assert [(row.name, row.state) for row in rows] == [(name, PROVED) for name in ("one", "three", "two")]
    assert [row.note[:40] for row in rows] == [
        "",
        "no time stamp: its index asked for none",
        f"no time stamp: {known.url} gave no"[:40],
    ]
    other = certificates.pem(time_stamps.authority("another root").certificate)
    (row, *_) = gathered(bucket, one.model_copy(update={"time_stamp_ca": other}))
    assert (row.name, row.state) == ("one", UNTRUSTED) and "is no trusted time stamp" in row.note


@pytest.mark.parametrize("fault", ["away", "slow", "denied"])
def test_a_bundle_that_s3_does_not_give_is_a_row_with_its_reason_and_the_rest_go_on(bucket, tmp_path, fault):
    one = a_round(f"s3://proofs/get-{fault}", "one", "two")
    proved(bucket, one, tmp_path)
    with faulty(bucket, fault, "GetObject", "/two.zip") as s3:
        rows = {row.name: row for row in gathered(s3, one)}
    assert (rows["one"].state, rows["one"].note) == (PROVED, "")
    assert rows["two"].state == MISSING and not rows["two"].proofs.controls
    assert rows["two"].note.startswith("its bundle could not be read: ") and S3_FAULTS[fault][1] in rows["two"].note


@pytest.mark.parametrize("fault", ["away", "denied"])
def test_a_listing_that_s3_does_not_give_is_a_sentence(bucket, fault):
    with faulty(bucket, fault, "ListObjectsV2") as s3, pytest.raises(AwsError) as caught:
        gather.stored(s3, "s3://proofs/x")
    assert S3_FAULTS[fault][1] in str(caught.value)


def test_objects_of_others_in_the_bucket_are_left_out(bucket):
    for key in ("y/2026-01-02/one.zip/more", "y/readme.txt", "y/../one.zip", "y/2026-01-02/<b>.zip"):
        bucket.put_object(Bucket="proofs", Key=key, Body=b"")
    assert gather.stored(bucket, "s3://proofs/y") == {}
    with pytest.raises(BundleError):
        gather.stored(bucket, "proofs")
