"""launch/gke: the image, the manifest, and what is handed in."""

import pytest
import yaml

from tests.launch import harness

IMAGE = "us-west4-docker.pkg.dev/p/r/jaxreid"


def _gke(folder, *options, train=harness.TRAIN, **scenario):
    options = (f"--image={IMAGE}", "--tag=t1", *options)
    return harness.Launch(folder, "gke/submit.sh", *options, "--", *train, **scenario)


def test_a_jobset_is_built_pushed_and_applied(tmp_path):
    options = ("--spot", "--slices=2", "--hosts=8", "--topology=4x8", "--restarts=7")
    done = _gke(tmp_path, *options, train=harness.ODD).run()
    assert done.code == 0, done.said
    build, push = done.calls("docker")
    assert build[1] == "build"
    assert build[-3:] == ["--tag", f"{IMAGE}:t1", str(harness.LAUNCH.parent)]
    assert push == ["docker", "push", f"{IMAGE}:t1"]
    assert done.calls("kubectl")[-1] == ["kubectl", "apply", "--filename", "-"]
    jobset = yaml.safe_load((done.folder / "applied.yaml").read_text())
    assert jobset["metadata"]["name"] == "jaxreid"
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 7
    (slices,) = jobset["spec"]["replicatedJobs"]
    job = slices["template"]["spec"]
    assert (slices["replicas"], job["completions"], job["parallelism"]) == (2, 8, 8)
    # 75 is none of those that end it.
    (rule,) = job["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [1, 2, 130])
    assert policy["rules"] == [
        {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    ]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["train", *harness.ODD]
    assert container["image"] == f"{IMAGE}:t1"
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x8"


def test_a_jobset_that_is_there_is_kept_unless_it_shall_be_replaced(tmp_path):
    done = _gke(tmp_path / "kept", jobset=[True]).run()
    assert done.code == 2
    assert "a JobSet jaxreid is there" in done.said
    assert not done.calls("docker")
    done = _gke(tmp_path / "replaced", "--replace", jobset=[True]).run()
    assert done.code == 0
    assert [words[1] for words in done.calls("kubectl")] == ["get", "delete", "apply"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--name=a: b", "--name is 'a: b'"),
        ("--topology=4", "--topology is '4'"),
        ("--hosts=0", "--hosts is '0'"),
        ("--tag=a b", "--tag is 'a b'"),
        ("--image=A B", "--image is 'A B'"),
    ],
)
def test_what_goes_into_the_manifest_is_checked(tmp_path, option, message):
    done = _gke(tmp_path, option).run()
    assert done.code == 2
    assert message in done.said
    assert not done.calls()


def test_the_image_holds_only_what_is_named():
    lines = (harness.LAUNCH / "gke" / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    for rule in rules[1:]:
        assert rule.startswith(("!", "**/"))
        if rule.startswith("!"):
            assert (harness.LAUNCH.parent / rule[1:]).exists()
