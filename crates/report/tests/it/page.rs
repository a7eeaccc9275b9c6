//! What must hold for every page.

/// Parses a page as XML; returns the text between the tags.
pub fn well_formed(page: &str) -> String {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(page, options).unwrap();
    document.descendants().filter(|node| node.is_text()).filter_map(|node| node.text()).collect()
}

/// Checks that a page asks for nothing outside of itself, runs nothing, and has a dark side.
pub fn needs_nothing_else(page: &str) {
    for outside in ["http:", "https:", "<script", "<link", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}
