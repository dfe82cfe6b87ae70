//! Panics of this thread, collected instead of printed: some are swallowed on purpose, and a bug may cause many.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static COLLECTED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Until it is dropped.
pub(super) struct Collecting(());

pub(super) fn collect() -> Collecting {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let collected = COLLECTED.with_borrow_mut(|collected| {
                let Some(collected) = collected else { return false };
                collected.push(info.to_string());
                // The last words before the process aborts.
                if info.to_string().contains("cleanup") {
                    eprintln!("{}", collected.join("\n"));
                }
                true
            });
            if !collected {
                print(info);
            }
        }));
    });
    COLLECTED.set(Some(Vec::new()));
    Collecting(())
}

pub(super) fn take() -> Vec<String> {
    COLLECTED.with_borrow_mut(|collected| collected.as_mut().map(std::mem::take).unwrap_or_default())
}

impl Drop for Collecting {
    fn drop(&mut self) {
        COLLECTED.set(None);
    }
}
