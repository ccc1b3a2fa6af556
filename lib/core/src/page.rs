//! The style that HTML pages share: the status page of a server, and reports.

/// The style of pages, light and dark: CSS.
pub const STYLE: &str = include_str!("page.css");
