"""The results of a run as pyarrow tables."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.analysis.landscape import Landscape
from orchestrator.run_file.errors import UserError
from topo_core.homology.persistent_homology import HomologyBarcode
from topo_core.homology.to_scores import to_score
from workers.storage.schema import MinimumRecord, PairRecord, SimplexRecord

TableName = Literal["minima", "passes", "bars", "scores", "profiles", "simplices"]
TABLES: tuple[TableName, ...] = ("minima", "passes", "bars", "scores", "profiles", "simplices")

_LEFT_OUT = frozenset(
    {"history", "positions", "losses", "test_positions", "test_losses", "object", "lease_term"}
)
"""Fields of records that the tables omit: lists, and names and lease terms that only the store uses."""


def table_of(landscape: Landscape, name: TableName) -> pa.Table:
    """One table of the results of a run; `LoadedRun.table` describes the columns.

    Raises:
        UserError: there is no such table.
    """
    match name:
        case "minima":
            return _records(MinimumRecord, landscape.minima)
        case "passes":
            return _records(PairRecord, landscape.passes)
        case "simplices":
            return _records(SimplexRecord, landscape.simplices)
        case "bars":
            return _bars(landscape)
        case "scores":
            return _scores(landscape)
        case "profiles":
            return _profiles(landscape)
    raise UserError(f"There is no table {name!r}: choose one of {', '.join(TABLES)}.")


def _records(kind: type[Any], records: Mapping[Any, Any]) -> pa.Table:
    kept = [f for f in fields(kind) if f.name not in _LEFT_OUT]
    rows = [record for _, record in sorted(records.items())]
    return pa.table(
        {f.name: pa.array([getattr(r, f.name) for r in rows], f.metadata["arrow"]) for f in kept}
    )


SIMPLICES = "simplices"
"""Value of the column `method` for all bars of the complex of optimised simplices, index 0 included."""


def _bars(landscape: Landscape) -> pa.Table:
    verified = landscape.verified
    ends = {end.minimum: end.kind.value for end in verified.ends} if verified else {}
    rows: list[dict[str, Any]] = [
        {
            "index": 0,
            "method": method,
            "minimum": bar.minimum,
            "birth": bar.birth,
            "death": bar.death,
            "saddle_i": bar.saddle[0] if bar.saddle else None,
            "saddle_j": bar.saddle[1] if bar.saddle else None,
            "born": (bar.minimum,),
            "killed": bar.saddle,
            "ends_at": ends.get(bar.minimum) if method == "elder" else None,
        }
        for method, barcode in landscape.all_barcodes.items()
        for bar in barcode.bars
    ]
    rows += [
        {
            "index": index,
            "method": SIMPLICES,
            "birth": bar.birth,
            "death": bar.death,
            "born": bar.born,
            "killed": bar.killed,
        }
        for index, bars in _of_simplices(landscape).items()
        for bar in bars.bars
    ]
    return pa.Table.from_pylist(rows, schema=_BARS)


def _of_simplices(landscape: Landscape) -> dict[int, HomologyBarcode]:
    """Index → barcode of the complex of optimised simplices, index 0 included; empty if there is none."""
    homology = landscape.homology
    return {0: homology.index_0, **homology.barcodes} if homology else {}


_BARS = pa.schema(
    {
        "index": pa.int32(),
        "method": pa.string(),
        "minimum": pa.int32(),
        "birth": pa.float64(),
        "death": pa.float64(),
        "saddle_i": pa.int32(),
        "saddle_j": pa.int32(),
        "born": pa.list_(pa.int32()),
        "killed": pa.list_(pa.int32()),
        "ends_at": pa.string(),
    }
)


def _scores(landscape: Landscape) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for method, barcode in landscape.all_barcodes.items():
        row: dict[str, Any] = {"index": 0, "method": method, "to_score": to_score(barcode)}
        row |= {"bars": len(barcode.bars), "zero_length": barcode.zero_length}
        if method == "elder" and landscape.assessment and landscape.assessment.sampling.estimated:
            row["epsilon"] = landscape.assessment.sampling.epsilon
        rows.append(row)
    if landscape.homology:
        epsilon = landscape.homology.epsilon
        for bars in _of_simplices(landscape).values():
            rows.append(
                {
                    "index": bars.index,
                    "method": SIMPLICES,
                    "to_score": to_score(bars),
                    "bars": len(bars.bars),
                    "zero_length": bars.zero_length,
                    "epsilon": epsilon if math.isfinite(epsilon) else None,
                }
            )
    return pa.Table.from_pylist(rows, schema=_SCORES)


_SCORES = pa.schema(
    {
        "index": pa.int32(),
        "method": pa.string(),
        "to_score": pa.float64(),
        "epsilon": pa.float64(),
        "bars": pa.int32(),
        "zero_length": pa.int32(),
    }
)


def _profiles(landscape: Landscape) -> pa.Table:
    records = [record for _, record in sorted(landscape.passes.items())]
    lengths = [len(record.positions) for record in records]

    def repeated(values: list[int]) -> NDArray[np.int32]:
        return np.repeat(np.array(values, dtype=np.int32), lengths)

    def joined(columns: list[Any]) -> NDArray[np.float64]:
        return np.concatenate([np.asarray(c) for c in columns]) if columns else np.empty(0)

    return pa.table(
        {
            "i": repeated([r.i for r in records]),
            "j": repeated([r.j for r in records]),
            "position": joined([r.positions for r in records]),
            "loss": joined([r.losses for r in records]),
        }
    )
