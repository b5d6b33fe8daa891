"""How `make site` turns the course into pages; tools/build_site.py makes the folder it reads."""

project = "Deep learning at the edge"
author = "the authors of the workbook"
extensions = ["myst_nb", "sphinx-mathjax-offline"]  # MathJax 3 and its fonts, in the site itself

nb_execution_mode = "off"  # the pages show what the notebooks store
nb_merge_streams = True  # or one output falls into several boxes
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "search_bar_text": "Search the course",
}
