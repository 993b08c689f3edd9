"""The report as a page for a browser; needs the packages of the extra ``report``."""

try:
    import altair as _altair  # noqa: F401
    import jinja2 as _jinja2  # noqa: F401
    import squarify as _squarify  # noqa: F401
    import vl_convert as _vl_convert  # noqa: F401
except ImportError as error:
    from scenarios import LorapackError

    class MissingExtraError(LorapackError, ImportError):
        """A package that makes the page is not installed."""

    raise MissingExtraError(f"a report needs {error.name}: pip install 'lorapack[report]'") from error

from optimizer.reporting.page.rendering import render_page as render_page
