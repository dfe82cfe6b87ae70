//! What the model sees of source.rs.

use super::Registration;

impl Registration {
    pub(crate) fn is_over(&self) -> bool {
        self.0.borrow().is_none()
    }
}
