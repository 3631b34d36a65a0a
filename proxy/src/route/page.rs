//! Pages of the app's own, made ready to be sent.

use bytes::Bytes;
use cutover_wire::table;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pages {
    errors: Vec<(u16, Bytes)>,
    maintenance: Option<Bytes>,
}

impl Pages {
    pub(super) fn of(pages: &table::Pages) -> Self {
        let made = |page: &String| Bytes::copy_from_slice(page.as_bytes());
        let errors = pages.errors.iter();
        Self {
            errors: errors.map(|(status, page)| (*status, made(page))).collect(),
            maintenance: pages.maintenance.as_ref().map(made),
        }
    }

    /// What is said instead of our own sentence.
    pub(super) fn error(&self, status: u16) -> Option<&Bytes> {
        let mut errors = self.errors.iter();
        errors.find(|(of, _)| *of == status).map(|(_, page)| page)
    }

    /// What is said in maintenance, which is a 503.
    pub(super) fn maintenance(&self) -> Option<&Bytes> {
        self.maintenance.as_ref().or_else(|| self.error(503))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maintenance_has_its_page_or_that_of_a_503() {
        let mut pages = table::Pages::default();
        let maintenance = |pages: &table::Pages| Pages::of(pages).maintenance().cloned();
        assert_eq!(maintenance(&pages), None);
        pages.errors.insert(502, "bad".to_owned());
        pages.errors.insert(503, "busy".to_owned());
        assert_eq!(maintenance(&pages).as_deref(), Some(&b"busy"[..]));
        pages.maintenance = Some("closed".to_owned());
        assert_eq!(maintenance(&pages).as_deref(), Some(&b"closed"[..]));
        let made = Pages::of(&pages);
        assert_eq!(made.error(502).map(|page| &page[..]), Some(&b"bad"[..]));
        assert_eq!(made.error(504), None);
    }
}
