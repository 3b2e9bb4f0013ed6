"""Named random streams: pinned, apart from each other, independent of what else is drawn."""

from __future__ import annotations

import hashlib

import torch

from lth.streams import stream, stream_seed


def test_pinned_values() -> None:
    """Every stored result depends on these: they must never change."""
    assert stream_seed(0, "init") == 3_330_654_677_893_223_573
    assert stream_seed(3, "order", 7) == 1_037_918_587_415_109_364
    assert torch.randint(0, 1000, (6,), generator=stream(3, "order", 7)).tolist() == [782, 809, 613, 475, 813, 977]


def test_a_stream_starts_from_the_digest_of_its_name() -> None:
    digest = hashlib.sha256(b"3/order/7").digest()

    assert stream_seed(3, "order", 7) == int.from_bytes(digest[:8], "little") // 2


def test_seeds_names_and_counters_tell_streams_apart() -> None:
    names = [
        "init",
        "order",
        "augment",
        "split",
        "reinit/level 1",
        "reinit/level 1/own",
        "random_mask/1.weight",
        "shuffled_mask/1.weight",
        "shuffled_weights/1.weight",
        "noise/1.weight",
        "scoring",
        "scoring/dropout",
    ]
    started = [
        stream_seed(seed, name, *counters)
        for seed in range(20)
        for name in names
        for counters in ((), (0,), (1,), (0, 1), (1, 0), (10,))
    ]

    assert len(set(started)) == len(started)
    assert all(0 <= start < 2**63 for start in started)
    # torch's generator looks at the low 32 bits only: they must differ as well.
    assert len({start % 2**32 for start in started}) == len(started)


def test_streams_are_uncorrelated() -> None:
    """Neighbouring seeds, counters and other names of one seed: correlations within noise."""
    drawn = torch.stack(
        [
            torch.randn(4000, generator=stream(seed, name, counter))
            for seed in range(4)
            for name in ("init", "order")
            for counter in range(4)
        ]
    )
    correlation = torch.corrcoef(drawn) - torch.eye(len(drawn))

    assert float(correlation.abs().max()) < 5 / 4000**0.5


def test_a_stream_does_not_depend_on_others_or_on_torchs_generator() -> None:
    alone = torch.rand(5, generator=stream(1, "init"))

    torch.manual_seed(99)
    other = stream(1, "order")
    torch.rand(100, generator=other)
    state = torch.get_rng_state()
    assert torch.equal(torch.rand(5, generator=stream(1, "init")), alone)
    assert torch.equal(torch.get_rng_state(), state)
