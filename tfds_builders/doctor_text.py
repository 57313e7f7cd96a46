"""An examination as a page for a person."""

from __future__ import annotations

import collections
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tfds_builders.base import count_lines, first_names
from tfds_builders.doctor import NOT_READY, CaptionFacts, Examination, Part
from tfds_builders.doctor_images import USUAL_MODE, ImageFacts

_WIDTH = 100
_QUANTITIES = ("images", "captions", "ids")
_NAME_WIDTH = 22
_FOLDERS_SHOWN = 12
_FINDINGS_SHOWN = 20
_FOUND, _PUBLISHED, _DIFFERENCE = 8, 10, 8  # widths of columns
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
        _different(found),
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
    for finding in findings[:_FINDINGS_SHOWN]:
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
    if len(findings) > _FINDINGS_SHOWN:
        lines.append(f"  - and {len(findings) - _FINDINGS_SHOWN:,} more: --json lists them all")
    return lines


def _counts(parts: Sequence[Part]) -> list[str]:
    """Draws the table of sizes; without published ones, only what was found."""
    if not parts:
        return []
    published = any(part.published for part in parts)
    heads = {"found": _FOUND}
    if published:
        heads |= {"published": _PUBLISHED, "differ": _DIFFERENCE}
    top = "".join(f"{what:>{sum(heads.values())}}" for what in _QUANTITIES)
    lines = [f"{'COUNTS':<{_NAME_WIDTH}}{top}"]
    if published:
        under = "".join(f"{head:>{width}}" for head, width in heads.items())
        lines.append(" " * _NAME_WIDTH + under * len(_QUANTITIES))
    hidden = 0
    shown: collections.Counter[str] = collections.Counter()
    for part in parts:
        shown[part.split] += bool(part.part)
        if shown[part.split] > _FOLDERS_SHOWN and not part.published:
            hidden += 1
        else:
            lines.append(_row(part, published))
    return [*lines, f"    and {hidden:,} more sub-folders"] if hidden else lines


def _row(part: Part, with_published: bool) -> str:
    name = f"    {part.part.removeprefix('folder ')}" if part.part else f"  {part.split}"
    row = f"{name:<{_NAME_WIDTH}}"
    for what in _QUANTITIES:
        found, published = getattr(part.found, what), getattr(part.published, what, None)
        row += f"{found:>{_FOUND},}"
        if with_published and published is None:
            row += " " * (_PUBLISHED + _DIFFERENCE)
        elif with_published:
            difference = f"{found - published:+,}" if found != published else "="
            row += f"{published:>{_PUBLISHED},}{difference:>{_DIFFERENCE}}"
    return row.rstrip()


def _different(found: Examination) -> list[str]:
    """Lists the differences, those of the table in one line."""
    of_table = count_lines(
        {_named(part): part.published for part in found.parts if part.published},
        {_named(part): part.found for part in found.parts if part.published},
    )
    listed = [line for line in found.differences if line not in of_table]
    number = len(found.differences) - len(listed)
    if number:
        listed.insert(0, f"{number:,} numbers under COUNTS differ from the published ones")
    return _listed("DIFFERENT", listed)


def _named(part: Part) -> str:
    return ", ".join(filter(None, (part.split, part.part)))


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
