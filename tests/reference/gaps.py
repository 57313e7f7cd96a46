"""How far a record is from ties of a maximum and from the edges of mining, where gradients jump."""

import numpy as np

from tests.reference.cases import Arrays, Case

MARGIN = 0.2


def smallest(case: Case, record: Arrays) -> dict[str, float]:
    """The smallest gap of each kind in the training forward.

    Returns:
      "pooling", between a maximum and the next value; "mining", in units of cosine, between the
      hardest negative and the next, and of every hinge, semi-hard loss and anchor from its edge.
    """
    pooled = _axm_maxima(case, record) if case.network == "axm_net" else _ssan_maxima(case, record)
    mined = [
        gap
        for branch in case.branches
        for gap in (_released if _is_released(case) else _paper)(case, record, branch)
    ]
    return {"pooling": min(map(_second, pooled), default=np.inf), "mining": min(mined)}


def _is_released(case: Case) -> bool:
    return case.objective.get("formulation") == "released"


def _second(rows: np.ndarray) -> float:
    """Smallest gap between the two greatest values of a row; a ReLU's 0 has no gradient to lose."""
    if rows.shape[-1] < 2:
        return np.inf
    ordered = np.sort(rows, axis=-1)
    gap = ordered[..., -1] - ordered[..., -2]
    return float(gap[ordered[..., -1] != 0].min(initial=np.inf))


def _ssan_maxima(case: Case, record: Arrays) -> list[np.ndarray]:
    """Rows [..., S] that a maximum is taken of."""
    image = record["train/image/map"]
    parts = case.all_fields["num_parts"] if "part" in case.branches else 1
    count, channels = image.shape[:2]
    rows = [image.reshape(count, channels, parts, -1)]
    for side, prefix in (("strong", ""), ("weak", "weak_")):
        if f"train/{side}/words" not in record:
            continue
        for number, length in enumerate(record[f"in/{prefix}lengths"]):
            words, first = (
                record[f"train/{side}/{name}"][number, :length]
                for name in ("words", "global_words")
            )
            rows.append(first.T)
            if "part" in case.branches:
                scores = record[f"train/{side}/scores"][number, :length]
                rows += list((scores[:, :, None] * words[:, None]).transpose(1, 2, 0))
    return rows


def _axm_maxima(case: Case, record: Arrays) -> list[np.ndarray]:
    if "part" not in case.branches or case.fields.get("pooling") == "average":
        return []
    attended = record["train/image/part_map"]
    return [attended.reshape(*attended.shape[:2], -1)]


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (x.reshape(len(x), -1) for x in (a, b))
    return a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)


def _similarities(
    case: Case, record: Arrays, branch: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """Cosines with strong and weak captions, which pairs are two people, and real weak ones."""
    image = record[f"train/image/{branch}"]
    name = "text" if case.network == "axm_net" else branch
    labels = record["in/labels"]
    real = np.zeros(len(labels), bool)
    weak = None
    if case.weak_valid is not None:
        real = record["in/weak_valid"]
        # A caption that is not real may be 0 and has no direction.
        features = record[f"train/weak/{branch}"]
        features = np.where(real.reshape(-1, *[1] * (features.ndim - 1)), features, 1.0)
        weak = _cosine(image, features)
    strong = _cosine(image, record[f"train/strong/{name}"])
    return strong, labels[:, None] != labels, weak, real


def _edges(similarity: np.ndarray, negative: np.ndarray, positive: np.ndarray) -> list[float]:
    """Of the hardest negative of each row: from the next, and of the hinge from 0."""
    gaps = []
    for row, candidates, own, margin in zip(*(similarity, negative, *positive), strict=True):
        if candidates.any():
            gaps += [_second(row[candidates]), abs(margin - own + row[candidates].max())]
    return gaps


def _margins(case: Case, strong: np.ndarray, weak: np.ndarray) -> np.ndarray:
    ratio = np.clip(weak / strong, 0, 1)
    if not case.objective.get("adaptive", True):
        return np.full(len(ratio), case.objective["fixed_margin"])
    if _is_released(case) and case.epoch < 5:
        return np.full(len(ratio), MARGIN / 2)
    return (ratio + 1) * MARGIN / 2


def _paper(case: Case, record: Arrays, branch: str) -> list[float]:
    strong, negative, weak, real = _similarities(case, record, branch)
    own, fixed = strong.diagonal(), np.full(len(strong), MARGIN)
    gaps = [gap for s in (strong, strong.T) for gap in _edges(s, negative, (own, fixed))]
    if weak is None:
        return gaps
    margin = _margins(case, own, weak.diagonal())
    negative = (negative & real)[real]
    for similarity in (strong, weak.T):
        rows = similarity[real], negative, (weak.diagonal()[real], margin[real])
        gaps += _edges(*rows)
    return gaps


def _released(case: Case, record: Arrays, branch: str) -> list[float]:
    strong, negative, weak, real = _similarities(case, record, branch)
    own, fixed = strong.diagonal(), np.full(len(strong), MARGIN)
    margin = _margins(case, np.abs(own), np.abs(weak.diagonal()))
    gaps = list(np.abs(margin[real] - 0.8 * MARGIN))
    kinds = (strong, negative, own, fixed), (weak, (negative & real)[real], weak.diagonal(), margin)
    for similarity, candidates, positive, edge in kinds:
        rows = real if similarity is weak else np.ones(len(real), bool)
        for one in (similarity, similarity.T):
            loss = (edge - positive)[rows, None] + one[rows]
            gaps += [*np.abs(loss[candidates]), *np.abs(loss - edge[rows, None])[candidates]]
    return gaps


def anchors(case: Case, record: Arrays) -> tuple[int, int]:
    """Of the released formulation: weak terms with an anchor, and those without one."""
    found = []
    for branch in case.branches:
        strong, _, weak, real = _similarities(case, record, branch)
        margin = _margins(case, np.abs(strong.diagonal()), np.abs(weak.diagonal()))
        found += list((margin >= 0.8 * MARGIN)[real])
    return sum(found), len(found) - sum(found)
