"""Paths of local disks and of buckets: what they lead to, and what is refused."""

import importlib.util
import pathlib
import subprocess
import sys

import fsspec
import pytest

from jaxreid import paths


def test_a_local_path_is_one_of_pathlib(tmp_path):
    path = paths.as_path(str(tmp_path))
    assert type(path) is type(tmp_path)
    assert path == tmp_path
    assert not paths.is_remote(path)


def test_a_path_into_a_bucket_keeps_its_two_slashes(bucket):
    path = paths.as_path("gs://bucket/runs/first") / "config.json"
    assert str(path) == "gs://bucket/runs/first/config.json"
    assert paths.is_remote(path)
    assert paths.as_path(path) == path
    path.write_bytes(b"{}")
    assert bucket.below("") == ["runs/first/config.json"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("s3://bucket/run", r"--workdir is 's3://bucket/run'; it takes a local path or gs://"),
        ("hdfs://a/b", "and no other store"),
        ("gs://", "names no bucket: gs://BUCKET/"),
        ("gs:///", "names no bucket: gs://BUCKET/"),
    ],
)
def test_other_stores_are_refused(path, message):
    with pytest.raises(ValueError, match=message):
        paths.as_path(path, "--workdir")


def test_a_missing_client_is_named(monkeypatch):
    def missing(name):
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    paths._reads_buckets.cache_clear()
    with pytest.raises(ValueError, match=r"--workdir is 'gs://b/run'.*'jaxreid\[gcs\]'"):
        paths.as_path("gs://b/run", "--workdir")
    paths._reads_buckets.cache_clear()


def test_local_paths_load_no_client_of_a_bucket():
    program = (
        "import sys; from jaxreid import cli_config, config, paths; paths.as_path('/tmp'); "
        "print(*{'fsspec', 'gcsfs', 'etils.epath'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


def test_caches_are_local():
    paths.refuse_remote("/data/cache", "config.data.cache_dir")
    with pytest.raises(ValueError, match="config.data.cache_dir is 'gs://b/cache'; caches are"):
        paths.refuse_remote("gs://b/cache", "config.data.cache_dir")


def test_absolute(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.absolute(pathlib.Path("a")) == tmp_path.resolve() / "a"
    path = paths.as_path("gs://bucket/a")
    assert paths.absolute(path) == path


def test_a_bucket_needs_no_folder(bucket, tmp_path):
    paths.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    paths.make_folder(paths.as_path("gs://bucket/a/b"))
    assert not bucket.objects


def test_errors_of_a_bucket_say_what_to_do():
    with (
        pytest.raises(ValueError, match=r"^--out is 'gs://b/x', which cannot be used: 403\. Check"),
        paths.explained("gs://b/x", "--out"),
    ):
        raise RuntimeError("403.\nmore")
    with (
        pytest.raises(ValueError, match="^as it is$"),
        paths.explained("gs://b/x", "--out"),
    ):
        raise ValueError("as it is")
    with pytest.raises(PermissionError, match="^local$"), paths.explained("/x", "--out"):
        raise PermissionError("local")


def test_a_folder_up_and_a_file_down(bucket, tmp_path):
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "a.txt").write_text("a")
    (tmp_path / "out" / "deep" / "b.txt").write_text("b")
    paths.upload(tmp_path / "out", paths.as_path("gs://bucket/there"))
    assert bucket.below("") == ["there/a.txt", "there/deep/b.txt"]
    copy = tmp_path / "back" / "b.txt"
    paths.download(paths.as_path("gs://bucket/there/deep/b.txt"), copy)
    assert copy.read_text() == "b"
    assert [file.name for file in copy.parent.iterdir()] == ["b.txt"]


def test_a_copy_that_fails_leaves_nothing_under_its_name(tmp_path):
    class Cut:
        def open(self, mode):
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, size):
            raise ConnectionError("cut")

    with pytest.raises(ConnectionError):
        paths.download(Cut(), tmp_path / "a.txt")
    assert not (tmp_path / "a.txt").exists()
