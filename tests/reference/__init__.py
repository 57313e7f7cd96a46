"""The other side of parity tests: the networks and their losses in plain PyTorch.

Written from the papers and their specifications alone, as someone who works in PyTorch would, so
that a mistake in one of the two implementations shows as a difference. Needs the extra `reference`.
`plain_resnet` alone is Flax: what an ordinary training step costs on a TPU.
"""
