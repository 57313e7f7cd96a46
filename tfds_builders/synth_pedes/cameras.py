"""Which pictures of a test identity are queries and which are its gallery: other cameras each."""

from __future__ import annotations

from tfds_builders.protocols import query_views
from tfds_builders.synth_pedes.identities import Shot, draw_shots


def view_key(camera: int) -> str:
    """Names what a camera sees as the sets of photographs do: "c0" .. "c5"."""
    return f"c{camera}"


def side_shots(seed: int, person_id: int, side: str) -> list[Shot]:
    """Plans the pictures of one side of an identity.

    Two of its four cameras become queries, see `tfds_builders.protocols.query_views`.

    Args:
      seed: seed of the dataset, and of the division.
      person_id: number of the identity.
      side: one of `tfds_builders.protocols.SIDES`.

    Returns:
      Those shots of `draw_shots` whose camera is on this side, in their order.
    """
    shots = list(draw_shots(seed, person_id))
    query = query_views(person_id, {view_key(shot.camera) for shot in shots}, seed=seed)
    return [shot for shot in shots if (view_key(shot.camera) in query) == (side == "query")]
