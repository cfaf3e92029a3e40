"""Records with made-up figures, for tests of what keeps them."""

from datetime import UTC, datetime

from workers.storage.schema import MinimumRecord, PairRecord


def minimum_record(key: str, *, number: int = 0, object_: str = "") -> MinimumRecord:
    return MinimumRecord(
        key=key,
        index=number,
        source="trained",
        loss=0.1 + number,
        test_loss=0.2,
        accuracy=0.9,
        test_accuracy=0.8,
        gradient_norm=1e-3,
        epochs=3,
        stop_reason="epochs",
        history=({"epoch": 1, "loss": 0.5, "rate": 0.1},),
        object=object_,
        finished_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


def pair_record(
    key: str, *, number: int = 0, pair: tuple[int, int] = (0, 1), object_: str | None = None
) -> PairRecord:
    height = 1.0 + number
    return PairRecord(
        key=key,
        i=pair[0],
        j=pair[1],
        a=f"minimum-{pair[0]}",
        b=f"minimum-{pair[1]}",
        height=height,
        height_high=height + 0.01,
        grid_height=height - 0.01,
        argmax_position=0.5,
        positions=(0.0, 0.5, 1.0),
        losses=(0.1, height, 0.2),
        outcome="budget",
        reason="",
        remaining_fall=0.01,
        first_passage_a=height,
        first_passage_b=height,
        dips_a=False,
        dips_b=False,
        epochs=10,
        points=3,
        gradient_evaluations=30,
        history=(
            {
                "epoch": 10,
                "rate": 0.1,
                "max_loss": height,
                "dense_maximum": height,
                "normal_norm": 0.1,
                "tangent_norm": 0.2,
                "length": 3.0,
                "stretch": 1.1,
                "points": 3,
                "gradient_evaluations": 30,
            },
        ),
        object=object_,
        finished_at=datetime(2026, 1, 2, tzinfo=UTC),
    )
