//! The right to change one app.

use std::collections::BTreeSet;
use std::sync::Mutex;

use cutover_plan::id::AppName;

/// The right to change one app. There is at most one for each app; whoever
/// changes an app must show it.
#[derive(Debug)]
pub struct Lease {
    app: AppName,
}

impl Lease {
    /// The app.
    pub fn app(&self) -> &AppName {
        &self.app
    }
}

/// Hands out the leases of a process, each once.
#[derive(Debug, Default)]
pub struct Leases {
    taken: Mutex<BTreeSet<AppName>>,
}

impl Leases {
    /// The lease of an app; none when it was handed out before.
    pub fn take(&self, app: &AppName) -> Option<Lease> {
        // A panic while the set was held leaves a whole set behind.
        let mut taken = self
            .taken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        taken
            .insert(app.clone())
            .then(|| Lease { app: app.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lease_of_an_app_is_not_handed_out() {
        let leases = Leases::default();
        let app = AppName::parse("shop").unwrap();
        assert!(leases.take(&app).is_some());
        assert!(leases.take(&app).is_none());
    }
}
