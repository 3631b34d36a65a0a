//! Pages of the app's own that the proxy answers with, as HTML.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fault::Faults;

/// Pages of one app.
const MAX_PAGES: usize = 16;
/// Bytes of one page: text with its style, and no pictures.
const MAX_PAGE: usize = 64 * 1024;

/// What users see where the proxy itself has to answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pages {
    /// By the status of the answer: what the proxy says instead of its own
    /// sentence. Answers of targets are never touched.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<u16, String>,
    /// What is answered, with a 503, while the app is in maintenance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<String>,
}

/// Whether an app is closed to its users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maintenance {
    /// Requests go to the app.
    #[default]
    Off,
    /// Every request but a preview's is answered with the maintenance page.
    On,
}

impl Pages {
    pub(super) fn check(&self, place: &str, faults: &mut Faults) {
        let errors = format!("{place}.errors");
        faults.at_most(&errors, "pages", self.errors.len(), MAX_PAGES);
        for (status, page) in &self.errors {
            let place = format!("{errors}.{status}");
            if !(400..=599).contains(status) {
                faults.add(&place, "a page is for a status from 400 to 599");
            }
            faults.at_most(&place, "bytes", page.len(), MAX_PAGE);
        }
        if let Some(page) = &self.maintenance {
            let place = format!("{place}.maintenance");
            faults.at_most(&place, "bytes", page.len(), MAX_PAGE);
        }
    }
}
