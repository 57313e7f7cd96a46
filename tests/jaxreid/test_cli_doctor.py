"""`jaxreid doctor`: each verdict, what a person reads, and what a program gets."""

import json
import shlex
import shutil
import sys

import cv2
import numpy as np
import pytest

from jaxreid import cli, cli_config
from jaxreid.data import source
from tests.jaxreid import tiny

SETS = (
    "cuhk_pedes",
    "icfg_pedes",
    "rstp_reid",
    "cross_re_id",
    "cuhk_sysu_pedes",
    "market1501_pedes",
    "folder_pedes",
)


@pytest.fixture
def doctor(capsys):
    """Runs the command; returns its exit code, what it printed and its error."""

    def call(name, manual_dir, *more):
        code = cli.main(["doctor", name, "--manual_dir", str(manual_dir), *more])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A made-up folder of each dataset; only to be read."""
    folders = {}
    for name in SETS:
        folders[name] = tmp_path_factory.mktemp(name)
        builder = source.find_builder(name, data_dir=folders[name], register="tfds_builders")
        builder.write_dummy_data(folders[name])
    return folders


@pytest.fixture
def cuhk(made, tmp_path):
    """A copy of the made-up CUHK-PEDES that a test may spoil."""
    return shutil.copytree(made["cuhk_pedes"] / "CUHK-PEDES", tmp_path / "CUHK-PEDES")


def change(cuhk, index, **fields):
    path = cuhk / "reid_raw.json"
    records = json.loads(path.read_text())
    records[index] |= fields
    path.write_text(json.dumps(records))


def write_jpeg(path):
    """Writes a JPEG with something in it, and returns its bytes."""
    rows = np.random.default_rng(0).integers(0, 256, (8, 4, 3), np.uint8)
    data = cv2.imencode(".jpg", cv2.resize(rows, (32, 64)))[1].tobytes()
    path.write_bytes(data)
    return data


@pytest.mark.parametrize("name", SETS)
def test_a_made_up_set_can_be_built(doctor, made, name):
    code, out, _ = doctor(name, made[name])
    assert code == 0
    verdict = "READY. Next: " if name == "folder_pedes" else "READY, WITH DIFFERENCES. Next: "
    assert f"\n{verdict}" in out
    assert "\n          0  missing\n          0  cannot be read\n" in out


@pytest.mark.parametrize("name", [*SETS, "cuhk_pedes/sysu", "folder_pedes/seed3"])
def test_the_commands_at_the_end_are_right(doctor, made, name):
    manual_dir = made[name.partition("/")[0]]
    build, train = (line.strip() for line in doctor(name, manual_dir)[1].splitlines()[-2:])
    dataset, config = source.find_builder(
        name, data_dir=manual_dir, register="tfds_builders"
    ).info.full_name.split("/")[:2]
    full_name = f"{dataset}/{config}" if config[0].isalpha() else dataset
    assert build == f"python -m tfds_builders.build {full_name} --manual_dir {manual_dir}"
    words = shlex.split(train)
    assert words[:3] == ["jaxreid", "train", "--config"]
    config = cli_config.load(f"{tiny.CONFIGS.parent}/{words[3]}", cli_config.split(words[6:]))
    assert config.data.name in (name, dataset, full_name)
    assert config.data.manual_dir == str(manual_dir)


def test_no_training_is_advised_where_none_is_possible(doctor, cuhk):
    path = cuhk / "reid_raw.json"
    records = json.loads(path.read_text())
    path.write_text(json.dumps([record for record in records if record["split"] != "val"]))
    code, out, _ = doctor("cuhk_pedes", cuhk)
    assert code == 0
    assert "Next: build it, to search in it; no training without val:\n" in out
    assert "jaxreid train" not in out


def test_the_page_of_cuhk_pedes(doctor, made):
    _, out, _ = doctor("cuhk_pedes", made["cuhk_pedes"])
    assert "EXPECTED\n  CUHK-PEDES/\n    reid_raw.json" in out
    assert f"FOUND in {made['cuhk_pedes']}/CUHK-PEDES\n  reid_raw.json\n  imgs/  20 files\n" in out
    assert "    Market/       7 files\n" in out
    (train,) = (line for line in out.splitlines() if line.startswith("  train  "))
    assert train.split()[:4] == ["train", "12", "34,054", "-34,042"]
    assert "        10  #" in out  # captions an image
    assert "5  images with another number than usual" in out
    assert "test_query/p2703_s3526.jpg (10)" in out
    assert "no id stands in two splits" in out
    assert max(map(len, out.splitlines()[:-2])) <= 110


def test_json_alone_on_stdout(doctor, cuhk):
    (cuhk / "imgs/cam_a/001_45.bmp").unlink()
    code, out, err = doctor("cuhk_pedes", cuhk, "--json")
    facts = json.loads(out)
    assert code == facts["exit_code"] == 1
    assert facts["verdict"] == "not ready"
    assert facts["dataset"] == "cuhk_pedes/official"
    assert facts["images"]["missing"] == ["cam_a/001_45.bmp"]
    assert facts["images"]["missing_by_folder"] == {"cam_a": 1}
    (train,) = (p for p in facts["parts"] if p["split"] == "train" and not p["part"])
    assert train["found"]["images"] == 12
    assert train["published"] == {"images": 34054, "captions": 68126, "ids": 11003}
    page = doctor("cuhk_pedes", cuhk)[1]
    assert all(line in page for line in facts["tree"])
    assert "NOT READY (1 under WRONG)" in page
    assert not err


def test_a_missing_image(doctor, cuhk):
    shutil.rmtree(cuhk / "imgs/CUHK01")
    code, out, _ = doctor("cuhk_pedes", cuhk.parent)
    assert code == 1
    assert "3  missing\n" in out
    assert "by sub-folder  CUHK01: 3 of 3" in out
    assert "first          CUHK01/0002001.png" in out
    assert "3 of 20 annotated images are missing" in " ".join(out.split())
    assert "put right what is listed under WRONG" in out


def test_a_truncated_image(doctor, cuhk):
    path = cuhk / "imgs/Market/0003_c1s1_000451_00.jpg"
    path.write_bytes(write_jpeg(path)[:-40])
    code, out, _ = doctor("cuhk_pedes", cuhk)
    assert code == 1
    assert "1  cannot be read\n" in out
    assert "Market/0003_c1s1_000451_00.jpg (truncated)" in out


def test_a_jpeg_damaged_in_the_middle(cuhk, capfd):
    pytest.importorskip("simplejpeg")
    path = cuhk / "imgs/Market/0003_c1s1_000451_00.jpg"
    data = bytearray(write_jpeg(path))
    data[-400:-396] = b"\xff\xd5\xff\xd9"
    path.write_bytes(bytes(data))
    assert cli.main(["doctor", "cuhk_pedes", "--manual_dir", str(cuhk)]) == 0
    out, err = capfd.readouterr()
    assert "1  decode with warnings\n" in out
    assert "Market/0003_c1s1_000451_00.jpg (Corrupt JPEG data" in out
    assert "READY, WITH DIFFERENCES" in out
    assert "Corrupt" not in err  # of the decoder itself


def test_an_empty_caption(doctor, cuhk):
    change(cuhk, 0, captions=["", " "])
    code, out, _ = doctor("cuhk_pedes", cuhk)
    assert code == 0
    assert "1  empty\n             first          cam_a/001_45.bmp" in out
    assert "1 captions are empty, first of cam_a/001_45.bmp" in out
    assert "1 captions are only blanks" in out


def test_only_the_file_without_splits(doctor, cuhk):
    (cuhk / "reid_raw.json").rename(cuhk / "caption_all.json")
    code, out, _ = doctor("cuhk_pedes", cuhk)
    assert code == 1
    words = " ".join(out.split())
    assert "caption_all.json has no official splits" in words
    assert "ask the authors of CUHK-PEDES" in words
    assert "  caption_all.json\n  imgs/  20 files" in out


def test_an_id_in_two_splits(doctor, cuhk):
    change(cuhk, 8, id=2)
    code, out, _ = doctor("cuhk_pedes", cuhk)
    assert code == 1
    assert "1 ids stand in more than one split: 2 (train and val" in " ".join(out.split())


def test_broken_json(doctor, cuhk):
    (cuhk / "reid_raw.json").write_text('[{"id": 1}')
    code, out, _ = doctor("cuhk_pedes", cuhk)
    assert code == 1
    assert "is not valid JSON" in " ".join(out.split())


@pytest.mark.parametrize(("where", "step"), [("imgs", "up"), ("../..", "down")])
def test_one_level_off(doctor, cuhk, tmp_path, where, step):
    given = cuhk / where if step == "up" else tmp_path.parent
    if step == "down":
        (tmp_path / "deep").mkdir()
        given, cuhk = tmp_path / "deep", shutil.move(cuhk, tmp_path / "deep/data/CUHK-PEDES")
    code, out, _ = doctor("cuhk_pedes", given)
    assert code == 1
    words = " ".join(out.split())
    assert f"the annotations lie one level {step}: reid_raw.json can be read from" in words
    assert "jaxreid doctor cuhk_pedes/official --manual_dir" in out.splitlines()[-1]
    again = out.splitlines()[-1].split()[-1]
    assert doctor("cuhk_pedes", again)[0] == 0


def test_no_folder_and_an_empty_one(doctor, tmp_path):
    code, out, _ = doctor("cuhk_pedes", tmp_path / "nowhere")
    assert code == 1
    assert "does not exist; accepted: the folder drawn under EXPECTED" in " ".join(out.split())
    code, out, _ = doctor("cuhk_pedes", tmp_path)
    assert code == 1
    assert "is empty; accepted: the folder" in " ".join(out.split())
    assert "FOUND in" in out
    assert "\n  nothing\n" in out


def test_a_set_that_is_not_made_from_files(doctor, tmp_path):
    code, out, err = doctor("synth_pedes", tmp_path)
    assert code == 1
    assert not out
    assert "NAME is 'synth_pedes': this dataset is not made from files of yours" in err
    assert err.count("\n") == 1


def test_a_set_that_there_is_not(doctor, tmp_path):
    code, out, err = doctor("cuhk_pedess", tmp_path)
    assert code == 1
    assert not out
    assert "'cuhk_pedess': no builder has this name" in err
    assert "cuhk_pedes" in err
    code, _, err = doctor("cuhk_pedes", tmp_path, "--register", "no_such_package")
    assert code == 1
    assert "'no_such_package' cannot be imported" in err


def test_progress_is_no_part_of_the_answer(doctor, made, monkeypatch, caplog):
    monkeypatch.setattr(sys.modules["tfds_builders.doctor"], "_LOG_SECONDS", 0.0)
    code, out, _ = doctor("folder_pedes", made["folder_pedes"], "--json")
    assert code == 0
    assert json.loads(out)["verdict"] == "ready"
    assert "decoded 30 of 30 images" in caplog.text
