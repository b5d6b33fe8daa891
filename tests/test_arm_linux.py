"""The record of LiteRT on Arm: its reference kernels are those of this machine, bit for bit."""

import numpy as np
import pytest

from helpers import arm_linux, data, kernel_answers
from helpers.integer import IntegerModel


@pytest.fixture(scope="module")
def record():
    return arm_linux.recorded()


def test_the_record_is_whole(record):
    contents, answers = record
    wanted = {f"{name}/{k}" for name in arm_linux.NETWORKS for k in kernel_answers.KERNELS}
    assert contents.keys() == set(arm_linux.NETWORKS) and answers.keys() == wanted
    assert all(a.shape == (200, 10) and a.dtype == np.int8 for a in answers.values())


@pytest.mark.parametrize("name", arm_linux.NETWORKS)
def test_reference_kernels_are_portable(name, record):
    contents, answers = record
    here = kernel_answers.answers(contents[name], arm_linux.pixels(), "reference")
    np.testing.assert_array_equal(answers[f"{name}/reference"], here)
    np.testing.assert_array_equal(IntegerModel(contents[name]).run(arm_linux.pixels()), here)


@pytest.mark.parametrize("name", arm_linux.NETWORKS)
def test_xnnpack_on_arm_is_lesson_43s_engine(name, record):
    """It did run there: what it answered is XNNPACK's rounding, and not that of other kernels."""
    contents, answers = record
    ours = IntegerModel(contents[name], "xnnpack").run(arm_linux.pixels())
    np.testing.assert_array_equal(answers[f"{name}/XNNPACK"], ours)
    assert (answers[f"{name}/optimized"] != ours).any()


def test_a_damaged_record_is_named(tmp_path, monkeypatch):
    target = tmp_path / arm_linux.RECORD
    target.parent.mkdir()
    target.write_bytes((data.DATA / arm_linux.RECORD).read_bytes()[:-9])
    (tmp_path / "SHA256SUMS").write_bytes((data.DATA / "SHA256SUMS").read_bytes())
    monkeypatch.setattr(data, "DATA", tmp_path)
    with pytest.raises(data.DataError, match="answers.npz is damaged"):
        arm_linux.recorded()


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGE_ARM", raising=False)
    assert "so this is the record" in arm_linux.missing()
    monkeypatch.setenv("EDGE_ARM", str(tmp_path))
    assert "lacks /qemu-aarch64-static, /usr/bin/python3.11, /site, /tmp" in arm_linux.missing()
    with pytest.raises(RuntimeError, match="skipped: the folder of EDGE_ARM lacks"):
        arm_linux.emulated({}, arm_linux.pixels())


@pytest.mark.skipif(bool(arm_linux.missing()), reason=arm_linux.missing() or "there")
def test_the_record_can_be_made_again(record):
    contents, answers = record
    found = arm_linux.emulated({"TinyCNN": contents["TinyCNN"]}, arm_linux.pixels()[:20])
    for key, values in found.items():
        np.testing.assert_array_equal(values, answers[key][:20])
