"""An examination as a page for a person."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tfds_builders.base import SplitCounts, first_names
from tfds_builders.doctor import NOT_READY, CaptionFacts, Examination, Part
from tfds_builders.doctor_images import USUAL_MODE, ImageFacts

_WIDTH = 100
_QUANTITIES = ("images", "captions", "ids")
_NAME_WIDTH = 24
_FOLDERS_SHOWN = 12
_BAR = 30


def page(examination: Examination) -> str:
    """Writes what was found: trees, counts, images, captions, what is wrong, and the verdict.

    Args:
      examination: what was found.

    Returns:
      Lines of about 100 letters, without an end of line behind the last.
    """
    found = examination
    blocks = [
        [f"{found.dataset} in {found.manual_dir}"],
        ["EXPECTED", *_indented(_without_head(found.expected))],
        [f"FOUND in {found.folder}", *_indented(found.tree)],
        _counts(found.parts),
        _images(found.images) if found.images else [],
        _captions(found.captions) if found.captions else [],
        _shared(found.shared_ids) if found.captions else [],
        _listed("WORTH KNOWING", found.notes),
        _listed("DIFFERENT", found.differences),
        _listed("WRONG", found.faults),
        _verdict(found),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _without_head(tree: str) -> list[str]:
    lines = tree.splitlines()
    if lines and lines[0].strip().rstrip(":").lower() == "expected":
        lines = textwrap.dedent("\n".join(lines[1:])).splitlines()
    return lines


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _listed(title: str, findings: Sequence[str]) -> list[str]:
    """Lists findings, each behind a dash, wrapped; lines of a finding stay lines."""
    if not findings:
        return []
    lines = [title]
    for finding in findings:
        for number, line in enumerate(finding.splitlines()):
            indent = " " * (len(line) - len(line.lstrip()))
            head = "  - " if number == 0 else f"    {indent}"
            lines += textwrap.wrap(
                line.strip(),
                _WIDTH,
                initial_indent=head,
                subsequent_indent=f"    {indent}",
                break_long_words=False,
                break_on_hyphens=False,
            )
    return lines


def _counts(parts: Sequence[Part]) -> list[str]:
    """Draws the table of sizes; without published ones, only what was found."""
    if not parts:
        return []
    published = any(part.published for part in parts)
    width = (9, 10, 7) if published else (9,)
    heads = ("found", "published", "diff.") if published else ("",)
    top = "".join(f"{what:>{sum(width)}}" for what in _QUANTITIES)
    lines = [f"{'COUNTS':<{_NAME_WIDTH}}{top}"]
    if published:
        under = "".join(f"{head:>{w}}" for head, w in zip(heads, width, strict=True))
        lines.append(" " * _NAME_WIDTH + under * len(_QUANTITIES))
    hidden = 0
    for index, part in enumerate(parts):
        if part.part and not part.published:
            before = [p for p in parts[:index] if p.split == part.split and p.part]
            if len(before) >= _FOLDERS_SHOWN:
                hidden += 1
                continue
        lines.append(_row(part, published))
    if hidden:
        lines.append(f"  and {hidden:,} more sub-folders")
    return lines


def _row(part: Part, published: bool) -> str:
    name = f"    {part.part.removeprefix('folder ')}" if part.part else f"  {part.split}"
    cells = ""
    for what in _QUANTITIES:
        cells += f"{_number(part.found, what):>9}"
        if published:
            cells += f"{_number(part.published, what):>10}{_difference(part, what):>7}"
    return f"{name:<{_NAME_WIDTH}}{cells}".rstrip()


def _number(counts: SplitCounts | None, what: str) -> str:
    return "" if counts is None else f"{dataclasses.asdict(counts)[what]:,}"


def _difference(part: Part, what: str) -> str:
    if part.published is None:
        return ""
    difference = getattr(part.found, what) - getattr(part.published, what)
    return f"{difference:+,}" if difference else "="


def _images(facts: ImageFacts) -> list[str]:
    lines = [f"IMAGES under {facts.root}", f"  {facts.named:>9,}  named by the annotations"]
    lines.append(f"  {len(facts.missing):>9,}  missing")
    if facts.missing:
        shares = [
            f"{folder}: {number:,} of {facts.named_by_folder[folder]:,}"
            for folder, number in facts.missing_by_folder.items()
        ]
        lines += _detail(f"by sub-folder  {first_names(shares, _FOLDERS_SHOWN)}")
        lines += _detail(f"first          {first_names(facts.missing)}")
    lines += _problems("cannot be read", facts.unreadable)
    if facts.strict:
        lines += _problems("decode with warnings", facts.warnings)
    else:
        lines.append("             damage within JPEG files not looked for: pip install simplejpeg")
    lines += [
        f"  {number:>9,}  of mode {mode}"
        for mode, number in facts.modes.items()
        if mode != USUAL_MODE
    ]
    for what, number in facts.odd_sizes.items():
        lines.append(f"  {number:>9,}  {what}")
        lines += _detail(f"first          {', '.join(facts.odd_first[what])}")
    if facts.sizes:
        small, middle, large = (f"{height} x {width}" for height, width in facts.sizes)
        lines.append(f"             height x width: {small} to {large}, median {middle}")
    return lines


def _problems(what: str, problems: Mapping[str, str]) -> list[str]:
    lines = [f"  {len(problems):>9,}  {what}"]
    if problems:
        named = first_names(f"{name} ({problem})" for name, problem in problems.items())
        lines += _detail(f"first          {named}")
    return lines


def _detail(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=" " * 13,
        subsequent_indent=" " * 28,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _captions(facts: CaptionFacts) -> list[str]:
    lines = ["CAPTIONS", f"  {facts.count:>9,}  in all"]
    for what, named in facts.odd.items():
        lines.append(f"  {named.count:>9,}  {what}")
        lines += _detail(f"first          {', '.join(named.first)}")
    usual = "" if facts.usual is None else f" (usual: {facts.usual})"
    lines.append(f"  captions an image{usual}")
    lines += _histogram(facts.per_image)
    if facts.unusual.count:
        lines.append(f"  {facts.unusual.count:>9,}  images with another number than usual")
        lines += _detail(f"first          {', '.join(facts.unusual.first)}")
    return lines


def _histogram(numbers: Mapping[int, int]) -> Iterator[str]:
    most = max(numbers.values(), default=1)
    for captions, images in numbers.items():
        bar = "#" * max(1, round(_BAR * images / most))
        yield f"  {captions:>9,}  {bar:<{_BAR}}  {images:,} images"


def _shared(shared: Mapping[str, int]) -> list[str]:
    if not shared:
        return ["IDENTITIES", "  no id stands in two splits"]
    lines = [f"  {number:>9,}  ids in both {pair}" for pair, number in shared.items()]
    return ["IDENTITIES", *lines]


def _verdict(found: Examination) -> list[str]:
    what, *commands = found.next_steps
    counted = f" ({len(found.faults)} under WRONG)" if found.verdict == NOT_READY else ""
    return [f"{found.verdict.upper()}{counted}. Next: {what}", *_indented(commands)]
