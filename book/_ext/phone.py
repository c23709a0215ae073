"""Sphinx extension: a link back to the top at the foot of every page, in place of a pill that floats over the text."""

LINK = '<p class="lb-top d-print-none"><a href="#">Back to top</a></p>'


def add_link(app, pagename, templatename, context, doctree) -> None:
    """Append the link to the body of a page that has a text of its own."""
    if doctree is not None and "body" in context:
        context["body"] += LINK


def setup(app):
    app.connect("html-page-context", add_link, priority=950)  # below all else that is appended
    return {"parallel_read_safe": True, "parallel_write_safe": True}
