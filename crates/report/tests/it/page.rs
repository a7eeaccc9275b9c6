//! Checks that every page must pass, shared by the tests of several crates.

/// Parses a page as XML and returns its text.
pub fn well_formed(page: &str) -> String {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(page, options).unwrap();
    document.descendants().filter(|node| node.is_text()).filter_map(|node| node.text()).collect()
}

/// Checks that a page loads nothing, runs no scripts and has a dark mode.
pub fn assert_self_contained(page: &str) {
    for outside in ["http:", "https:", "<script", "<link", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}
