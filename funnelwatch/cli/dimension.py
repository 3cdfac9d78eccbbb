"""The option ``--dimension`` of commands that simulate traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.producers.simulate.profile import Dimension


class DimensionType(click.ParamType):
    """A further dimension, such as ``country=DE:0.5,AT:0.3,CH:0.2``."""

    name = "dimension"

    def convert(self, value: str | Dimension, param: click.Parameter | None, ctx: click.Context | None) -> Dimension:
        """The dimension; a usage error if the text is none."""
        if not isinstance(value, str):
            return value
        # The demo's first line must not wait for what this imports.
        from funnelwatch.producers.simulate.profile import Dimension  # noqa: PLC0415

        try:
            return Dimension.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def dimension_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option; the parameter ``dimensions`` has its values."""
    return click.option(
        "--dimension",
        "dimensions",
        type=DimensionType(),
        multiple=True,
        metavar="NAME=V[:SHARE],...",
        help="A further dimension of every session, such as country=DE:0.5,AT:0.3,CH:0.2; repeatable. Values without "
        "a share divide the rest equally.",
    )(command)
