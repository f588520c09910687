"""The fuzzer: 2,000 mutations of a fresh qres3m_vr give nothing but refusals, and it sees bad decoders itself."""

from __future__ import annotations

import json
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import fuzz
from benchmarks.measure.damage import KINDS, Mutation, Target, make_target, mutate
from core import bitstream
from core.bitstream import BitstreamError, Stream
from core.registry import METHODS, discover, make_method

discover()
CONFIG = {"mutations": 300, "seed": 0, "signed": 0.5}
IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


class Careless:
    """Stores samples in our container and trusts what it reads; ``fault`` says how it goes wrong."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def compress(self, image):
        data = zlib.crc32(image.tobytes()).to_bytes(4, "little") + image.tobytes()
        return bitstream.pack(Stream(b"toys", *image.shape, (data,), 0))

    def decompress(self, stream):
        payload = bitstream.unpack(stream, b"toys").chunks[0]
        good = len(payload) == 52 and zlib.crc32(payload[4:]) == int.from_bytes(payload[:4], "little")
        if not good and self.fault == "wrong":
            return np.zeros((4, 4, 3), np.uint8)
        if not good and self.fault == "raise":
            raise ValueError("a bug")
        if not good and self.fault == "hang":
            time.sleep(5)
        if not good:
            raise BitstreamError("damaged")
        return np.frombuffer(payload[4:], np.uint8).reshape(4, 4, 3)


def target(fault: str = "", limit_s: float = 10.0) -> Target:
    codec = Careless(fault)
    return Target(codec, [codec.compress(IMAGE)], [IMAGE], True, limit_s)


def test_mutations_are_reproducible_and_of_every_kind():
    streams = [Careless().compress(IMAGE), Careless().compress(IMAGE[::-1])]
    made = [mutate(streams, k % 2, 5, k, 0.5) for k in range(400)]
    assert made == [mutate(streams, k % 2, 5, k, 0.5) for k in range(400)]
    assert {m.kind for m in made} == set(KINDS) and 150 < sum(m.signed for m in made) < 250
    assert len({m.data for m in made}) > 300
    for m in made:
        if m.signed:
            assert bitstream.unpack(m.data, b"toys").height == 4, "the damage is behind a header that is in order"
    assert not any(mutate([b"other format"], 0, 5, k, 1.0).signed for k in range(20))


def test_streams_of_several_chunks_are_signed_behind_their_lengths():
    stream = bitstream.pack(Stream(b"toys", 4, 4, 3, (b"first", b"second"), 0))
    made = [mutate([stream], 0, 5, k, 1.0) for k in range(50)]
    head = 18  # two sides, the number of chunks and the first length behind the fixed fields
    assert all(m.signed and m.data[:6] + m.data[10:head] == stream[:6] + stream[10:head] for m in made)
    assert all(zlib.crc32(m.data[:6] + m.data[10:]) == int.from_bytes(m.data[6:10], "little") for m in made)


def test_a_sound_decoder_has_no_problems(tmp_path):
    record = fuzz.attack(target(), CONFIG, {"method": "toy"}, tmp_path / "toy.json")
    assert record["problems"] == 0 and record["done"] == 300
    words = Counter(word for counts in record["counts"].values() for word in counts)
    assert set(words) <= {"refused", "same picture"}
    assert sum(n for counts in record["counts"].values() for n in counts.values()) == 300
    assert {k for k in record["counts"] if k.endswith("signed")} == {f"{k}, signed" for k in KINDS}


def test_another_whole_stream_is_no_damage():
    codec, pictures = Careless(), [IMAGE, np.ascontiguousarray(IMAGE[::-1])]
    both = Target(codec, [codec.compress(p) for p in pictures], pictures, True, 10.0)
    word, _, _ = both.outcome(Mutation(both.streams[1], "splice", False), 0)
    assert word == "same picture"


@pytest.mark.parametrize(
    ("fault", "word"), [("wrong", "another picture"), ("raise", "ValueError"), ("hang", "too slow")]
)
def test_unsound_decoders_are_seen(tmp_path, fault, word):
    config = {**CONFIG, "mutations": 8 if fault == "hang" else 100}
    record = fuzz.attack(target(fault, 0.2), config, {"method": "toy"}, tmp_path / "toy.json")
    assert record["problems"] > 0 and {d["outcome"] for d in record["described"]} == {word}
    first = record["described"][0]["mutation"]
    assert mutate(target().streams, 0, 0, first, 0.5).signed, "the described mutation can be made again"


def test_a_suspended_machine_is_no_slow_decoder(tmp_path):
    slow, calls = target("hang", 0.2), []

    def once(*arguments):
        calls.append(arguments)
        return ("too slow", 800.0, "") if len(calls) == 1 else ("refused", 0.0, "")

    slow.outcome = once
    record = fuzz.attack(slow, {**CONFIG, "mutations": 1}, {"method": "toy"}, tmp_path / "toy.json")
    assert record["problems"] == 0 and len(calls) == 2 and record["slowest_s"] == 0.0


def test_an_interrupted_run_resumes_with_the_same_outcome(tmp_path, monkeypatch):
    path, whole = tmp_path / "toy.json", fuzz.attack(target(), CONFIG, {"method": "toy"}, tmp_path / "whole.json")
    monkeypatch.setattr(fuzz, "SAVE_S", 0.0)
    one, calls = fuzz._one, []

    def stopped(*arguments):
        calls.append(arguments[2])
        if len(calls) == 120:
            raise KeyboardInterrupt
        one(*arguments)

    monkeypatch.setattr(fuzz, "_one", stopped)
    with pytest.raises(KeyboardInterrupt):
        fuzz.attack(target(), CONFIG, {"method": "toy"}, path)
    assert json.loads(path.read_text())["done"] == 119
    resumed = fuzz.attack(target(), CONFIG, {"method": "toy"}, path)
    assert resumed["counts"] == whole["counts"] and len(calls) == 301
    assert fuzz.attack(target(), CONFIG, {"method": "other"}, path)["counts"] == whole["counts"] and len(calls) == 601


def test_two_thousand_mutations_of_qres3m_vr(tmp_path):
    made, name = make_target(METHODS["qres3m_vr"](lmb=64), "fresh", 20.0)
    assert name == "fresh" and made.checksums
    record = fuzz.attack(made, {"mutations": 2000, "seed": 1, "signed": 0.04}, {}, tmp_path / "qres3m_vr.json")
    assert record["done"] == 2000 and record["problems"] == 0, record["described"]
    reached = Counter[str]()
    for kind, counts in record["counts"].items():
        if kind.endswith("signed"):
            reached.update(counts)
    assert reached["mismatch"] + reached["refused"] > 40, "the damage got to the entropy decoder"


def test_two_hundred_mutations_of_webp(tmp_path):
    made, _ = make_target(make_method("webp"), "auto", 20.0)
    assert not made.checksums
    record = fuzz.attack(made, {**CONFIG, "mutations": 200}, {}, tmp_path / "webp.json")
    assert record["problems"] == 0 and not any(kind.endswith("signed") for kind in record["counts"])


def test_several_methods_are_one_command_and_one_table(command):
    words = ("benchmarks/fuzz.py", "with", "methods=rvq,fsq", "mutations=60", "signed=0.5", "side=16", "weights=ours")
    ended = command(*words)
    assert ended.code == 0, ended.err
    table = pd.read_csv("results/tables/fuzz.csv").set_index("decoder")
    assert list(table.index) == ["fsq", "rvq"] and (table["signed again"] > 10).all() and (table["problems"] == 0).all()
    parts = table[["refused", "mismatch", "same picture"]].sum(axis=1)
    assert (parts == table["mutations"]).all() and (table["mutations"] == 60).all()


def test_the_command_writes_its_outcome_and_does_not_repeat_itself(command, monkeypatch):
    words = ("benchmarks/fuzz.py", "with", "smoke", "method=png")
    ended = command(*words)
    assert ended.code == 0 and "200 mutations, 0 problems" in ended.out, ended.err
    record = json.loads(Path("results/fuzz/png.json").read_text())
    assert record["done"] == record["mutations"] == 200 and record["provenance"]["commit"]
    assert record["method"] == "png" and record["seed"] == 0 and record["slowest_s"] >= 0
    table = pd.read_csv("results/tables/fuzz.csv")
    assert table[["decoder", "mutations", "signed again", "problems"]].values.tolist() == [["png", 200, 0, 0]]
    again = command(*words)
    assert again.code == 0 and json.loads(Path("results/fuzz/png.json").read_text()) == record
    for wrong, sentence in (
        ("method=pgn", "did you mean png"),
        ("mutations=x", "whole number"),
        ("side=8", "side=8 must be from 16 to 256"),
        ("results=results/fuzz/png.json", "written"),
    ):
        ended = command(*words, wrong)
        assert ended.code == 2 and sentence in ended.sentence
