//! What the model sees of context.rs.

use super::*;

impl Core {
    /// A core without a context.
    pub(crate) fn of_model(hub: Rc<Hub>) -> Rc<Self> {
        Rc::new(Self::new(hub, None))
    }
}
