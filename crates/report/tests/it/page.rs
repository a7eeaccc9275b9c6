//! Checks that every page must pass. The tests of several crates share this module.

/// Parses a page as XML and returns the text of all elements. Panics if the page is not well-formed.
pub fn well_formed(page: &str) -> String {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(page, options).unwrap();
    document.descendants().filter(|node| node.is_text()).filter_map(|node| node.text()).collect()
}

/// Checks that a page loads no external resources, runs no scripts and supports dark mode.
pub fn assert_self_contained(page: &str) {
    for outside in ["http:", "https:", "<script", "<link", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "the page contains `{outside}`");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}
