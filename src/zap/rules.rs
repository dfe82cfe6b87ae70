//! The policy for most programs: lists of addresses, users and keys.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hint::black_box;
use std::net::IpAddr;
use std::rc::Rc;

use super::{Credentials, Decision, Policy, PublicKey, Request};

/// A [`Policy`] of lists: who may connect, domain by domain. A new one lets nobody in.
///
/// A cheap handle: clones are the same lists. Keep one, give one to the [`Authenticator`](super::Authenticator), and
/// change them while it runs. A change is for those who connect from then on; nobody is thrown out by it.
///
/// A domain is what `set_zap_domain` gave the socket; `""` is that of sockets which have none. Addresses are looked at
/// first: one that is denied is refused; if some are allowed, all others are refused. Then what the peer shows counts:
///
/// | mechanism | comes in | user id |
/// |---|---|---|
/// | NULL | if the domain [allows it](Self::allow_anonymous) | none |
/// | PLAIN | with the [password](Self::add_user) of its user name | the user name |
/// | CURVE | with a [key that was added](Self::add_key), or [any](Self::allow_any_key) | what was added with it, or the key as text |
///
/// # Examples
///
/// ```
/// use std::net::Ipv4Addr;
/// use calloop_zmq::zap::Rules;
///
/// let rules = Rules::new();
/// rules.add_user("shop", "alice", "secret"); // set_zap_domain("shop") and set_plain_server(true)
/// rules.deny_address("shop", Ipv4Addr::new(192, 0, 2, 7));
/// rules.allow_anonymous("status");           // set_zap_domain("status")
/// rules.allow_address("status", Ipv4Addr::LOCALHOST);
/// ```
#[derive(Clone, Default)]
pub struct Rules {
    domains: Rc<RefCell<BTreeMap<String, Domain>>>,
}

#[derive(Default)]
struct Domain {
    allowed: BTreeSet<IpAddr>,
    denied: BTreeSet<IpAddr>,
    anonymous: bool,
    passwords: BTreeMap<String, Vec<u8>>,
    /// With the user id of each.
    keys: BTreeMap<PublicKey, String>,
    any_key: bool,
}

impl Rules {
    /// Lists that let nobody in.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zap::{Request, Rules}};
    /// # let request = Request::parse(&Multipart::from(["1.0", "1", "shop", "192.0.2.7", "", "NULL"]))?;
    /// assert!(!Rules::new().check(&request).is_allowed());
    /// # Ok::<(), calloop_zmq::zap::Malformed>(())
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets this address come as far as its credentials, and no longer all that are not denied.
    ///
    /// A connection without an IP address (`ipc://`) is not on such a list.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zap::{Request, Rules}};
    /// # let request = Request::parse(&Multipart::from(["1.0", "1", "shop", "192.0.2.7", "", "NULL"]))?;
    /// # use std::net::Ipv4Addr;
    /// let rules = Rules::new();
    /// rules.allow_anonymous("shop");
    /// rules.allow_address("shop", Ipv4Addr::LOCALHOST);
    /// assert!(!rules.check(&request).is_allowed()); // from 192.0.2.7
    /// rules.allow_address("shop", Ipv4Addr::new(192, 0, 2, 7));
    /// assert!(rules.check(&request).is_allowed());
    /// # Ok::<(), calloop_zmq::zap::Malformed>(())
    /// ```
    pub fn allow_address(&self, domain: &str, address: impl Into<IpAddr>) {
        let address = address.into().to_canonical();
        self.change(domain, |domain| domain.allowed.insert(address));
    }

    /// Shuts this address out, allowed or not.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zap::{Request, Rules}};
    /// # let request = Request::parse(&Multipart::from(["1.0", "1", "shop", "192.0.2.7", "", "NULL"]))?;
    /// # use std::net::Ipv4Addr;
    /// let rules = Rules::new();
    /// rules.allow_anonymous("shop");
    /// rules.deny_address("shop", Ipv4Addr::new(192, 0, 2, 7));
    /// assert!(!rules.check(&request).is_allowed());
    /// # Ok::<(), calloop_zmq::zap::Malformed>(())
    /// ```
    pub fn deny_address(&self, domain: &str, address: impl Into<IpAddr>) {
        let address = address.into().to_canonical();
        self.change(domain, |domain| domain.denied.insert(address));
    }

    /// Takes this address off both lists. The last one off the list of the allowed makes that everybody again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zap::{Request, Rules}};
    /// # let request = Request::parse(&Multipart::from(["1.0", "1", "shop", "192.0.2.7", "", "NULL"]))?;
    /// # use std::net::Ipv4Addr;
    /// # let rules = Rules::new();
    /// # rules.allow_anonymous("shop");
    /// rules.deny_address("shop", Ipv4Addr::new(192, 0, 2, 7));
    /// rules.forget_address("shop", Ipv4Addr::new(192, 0, 2, 7));
    /// assert!(rules.check(&request).is_allowed());
    /// # Ok::<(), calloop_zmq::zap::Malformed>(())
    /// ```
    pub fn forget_address(&self, domain: &str, address: impl Into<IpAddr>) {
        let address = address.into().to_canonical();
        self.change(domain, |domain| domain.denied.remove(&address) | domain.allowed.remove(&address));
    }

    /// Lets peers in that show nothing (NULL).
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zap::{Request, Rules}};
    /// # let request = Request::parse(&Multipart::from(["1.0", "1", "shop", "192.0.2.7", "", "NULL"]))?;
    /// let rules = Rules::new();
    /// rules.allow_anonymous("shop");
    /// assert!(rules.check(&request).is_allowed());
    /// # Ok::<(), calloop_zmq::zap::Malformed>(())
    /// ```
    pub fn allow_anonymous(&self, domain: &str) {
        self.change(domain, |domain| domain.anonymous = true);
    }

    /// Lets a user in with this password (PLAIN), and no longer with an earlier one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zap::{Request, Rules}};
    /// # let request = Request::parse(&Multipart::from(["1.0", "1", "shop", "192.0.2.7", "", "PLAIN", "alice", "secret"]))?;
    /// let rules = Rules::new();
    /// rules.add_user("shop", "alice", "secret");
    /// assert!(rules.check(&request).is_allowed());
    /// # Ok::<(), calloop_zmq::zap::Malformed>(())
    /// ```
    pub fn add_user(&self, domain: &str, username: &str, password: impl AsRef<[u8]>) {
        let password = password.as_ref().to_vec();
        self.change(domain, |domain| domain.passwords.insert(username.to_owned(), password));
    }

    /// Lets the user in no more.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zap::{Request, Rules}};
    /// # let request = Request::parse(&Multipart::from(["1.0", "1", "shop", "192.0.2.7", "", "PLAIN", "alice", "secret"]))?;
    /// # let rules = Rules::new();
    /// rules.add_user("shop", "alice", "secret");
    /// rules.remove_user("shop", "alice");
    /// assert!(!rules.check(&request).is_allowed());
    /// # Ok::<(), calloop_zmq::zap::Malformed>(())
    /// ```
    pub fn remove_user(&self, domain: &str, username: &str) {
        self.change(domain, |domain| domain.passwords.remove(username));
    }

    /// Lets the owner of this key in (CURVE), as this user.
    ///
    /// # Errors
    ///
    /// [`Error::CurveMissing`](crate::Error::CurveMissing) if libzmq was built without CURVE: nobody could come with a
    /// key.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zap::{PublicKey, Request, Rules}};
    /// # if calloop_zmq::features().require_curve().is_err() {
    /// #     return Ok(());
    /// # }
    /// # let mut frames: Multipart = ["1.0", "1", "bank", "192.0.2.7", "", "CURVE"].into();
    /// # frames.push_back([7; 32]);
    /// # let request = Request::parse(&frames)?;
    /// let rules = Rules::new();
    /// rules.add_key("bank", PublicKey::from([7; 32]), "alice")?;
    /// assert!(rules.check(&request).is_allowed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_key(&self, domain: &str, key: impl Into<PublicKey>, user_id: impl Into<String>) -> crate::Result<()> {
        crate::features::require_curve()?;
        let (key, user_id) = (key.into(), user_id.into());
        self.change(domain, |domain| domain.keys.insert(key, user_id));
        Ok(())
    }

    /// Lets the owner of this key in no more, unless [any](Self::allow_any_key) may come.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zap::{PublicKey, Request, Rules}};
    /// # if calloop_zmq::features().require_curve().is_err() {
    /// #     return Ok(());
    /// # }
    /// # let mut frames: Multipart = ["1.0", "1", "bank", "192.0.2.7", "", "CURVE"].into();
    /// # frames.push_back([7; 32]);
    /// # let request = Request::parse(&frames)?;
    /// # let rules = Rules::new();
    /// rules.add_key("bank", PublicKey::from([7; 32]), "alice")?;
    /// rules.remove_key("bank", PublicKey::from([7; 32]));
    /// assert!(!rules.check(&request).is_allowed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove_key(&self, domain: &str, key: impl Into<PublicKey>) {
        let key = key.into();
        self.change(domain, |domain| domain.keys.remove(&key));
    }

    /// Lets everybody in who owns a key (CURVE), whichever it is: encrypted, and known by the key.
    ///
    /// # Errors
    ///
    /// As [`add_key`](Self::add_key).
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zap::{PublicKey, Request, Rules}};
    /// # if calloop_zmq::features().require_curve().is_err() {
    /// #     return Ok(());
    /// # }
    /// # let mut frames: Multipart = ["1.0", "1", "bank", "192.0.2.7", "", "CURVE"].into();
    /// # frames.push_back([7; 32]);
    /// # let request = Request::parse(&frames)?;
    /// # let _ = PublicKey::from([7; 32]);
    /// let rules = Rules::new();
    /// rules.allow_any_key("bank")?;
    /// assert!(rules.check(&request).is_allowed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn allow_any_key(&self, domain: &str) -> crate::Result<()> {
        crate::features::require_curve()?;
        self.change(domain, |domain| domain.any_key = true);
        Ok(())
    }

    /// Forgets all that was said about a domain: it lets nobody in.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zap::{Request, Rules}};
    /// # let request = Request::parse(&Multipart::from(["1.0", "1", "shop", "192.0.2.7", "", "NULL"]))?;
    /// # let rules = Rules::new();
    /// rules.allow_anonymous("shop");
    /// rules.remove_domain("shop");
    /// assert!(!rules.check(&request).is_allowed());
    /// # Ok::<(), calloop_zmq::zap::Malformed>(())
    /// ```
    pub fn remove_domain(&self, domain: &str) {
        self.domains.borrow_mut().remove(domain);
    }

    /// What the lists say about a request, for a policy of your own that asks further:
    ///
    /// ```
    /// use calloop_zmq::zap::{Decision, Request, Rules};
    ///
    /// let rules = Rules::new();
    /// let policy = move |request: Request| {
    ///     let listed = rules.check(&request);
    ///     async move { if listed.is_allowed() { listed.with_property("Role", "clerk") } else { Decision::deny() } }
    /// };
    /// # let _ = policy;
    /// ```
    pub fn check(&self, request: &Request) -> Decision {
        let domains = self.domains.borrow();
        let Some(domain) = domains.get(&request.domain) else {
            return Decision::deny().with_reason("no such domain");
        };
        let ip = request.ip();
        let listed = |list: &BTreeSet<IpAddr>| ip.is_some_and(|ip| list.contains(&ip));
        if listed(&domain.denied) || !domain.allowed.is_empty() && !listed(&domain.allowed) {
            return Decision::deny().with_reason("not from this address");
        }
        match &request.credentials {
            Credentials::Null if domain.anonymous => Decision::allow(),
            Credentials::Null => Decision::deny().with_reason("not without credentials"),
            Credentials::Plain { username, password } => {
                match domain.passwords.get(username).filter(|expected| equal(expected, password)) {
                    Some(_) => Decision::allow().with_user_id(username),
                    None => Decision::deny().with_reason("unknown user or wrong password"),
                }
            }
            Credentials::Curve { key } => match domain.keys.get(key) {
                Some(user_id) => Decision::allow().with_user_id(user_id),
                None if domain.any_key => Decision::allow().with_user_id(key.to_string()),
                None => Decision::deny().with_reason("unknown key"),
            },
        }
    }

    /// No code of the caller's runs in here: it might come back.
    fn change<R>(&self, domain: &str, change: impl FnOnce(&mut Domain) -> R) {
        change(self.domains.borrow_mut().entry(domain.to_owned()).or_default());
    }
}

impl Policy for Rules {
    async fn decide(&self, request: Request) -> Decision {
        self.check(&request)
    }
}

/// The names of the domains; no user, password or key.
impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.domains.borrow().keys()).finish()
    }
}

/// Compares to the end: how long that takes does not tell how much of a password was right.
fn equal(expected: &[u8], given: &[u8]) -> bool {
    let differences = expected.iter().zip(given).fold(0, |differences, (a, b)| black_box(differences | (a ^ b)));
    differences == 0 && expected.len() == given.len()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const KEY: PublicKey = PublicKey([7; 32]);

    fn request(domain: &str, address: &str, credentials: Credentials) -> Request {
        Request { domain: domain.into(), address: address.into(), identity: Vec::new(), credentials }
    }

    fn plain(username: &str, password: &str) -> Request {
        let credentials = Credentials::Plain { username: username.into(), password: password.into() };
        request("shop", "192.0.2.7", credentials)
    }

    #[test]
    fn new_lists_let_nobody_in() {
        let rules = Rules::new();
        for credentials in [Credentials::Null, Credentials::Curve { key: KEY }] {
            assert_eq!(rules.check(&request("", "192.0.2.7", credentials)).status(), 400);
        }
        assert_eq!(rules.check(&plain("", "")).status(), 400);
        rules.allow_address("shop", Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(rules.check(&plain("", "")).status(), 400, "an address alone is nothing");
        assert_eq!(rules.check(&request("shop", "192.0.2.7", Credentials::Null)).status(), 400);
    }

    #[test]
    fn a_password_is_its_users_and_its_domains() {
        let rules = Rules::new();
        rules.add_user("shop", "alice", "secret");
        rules.add_user("shop", "bob", "");
        rules.add_user("bank", "carol", "gold");
        assert_eq!(rules.check(&plain("alice", "secret")), Decision::allow().with_user_id("alice"));
        assert!(rules.check(&plain("bob", "")).is_allowed());
        for (username, password) in [
            ("alice", ""),
            ("alice", "secret2"),
            ("alice", "secre"),
            ("alice", "Secret"),
            ("carol", "gold"),
            ("dave", ""),
        ] {
            assert_eq!(rules.check(&plain(username, password)).status(), 400, "{username} {password}");
        }
        rules.add_user("shop", "alice", "new");
        assert!(
            !rules.check(&plain("alice", "secret")).is_allowed() && rules.check(&plain("alice", "new")).is_allowed()
        );
        rules.remove_user("shop", "alice");
        assert!(!rules.check(&plain("alice", "new")).is_allowed());
        rules.remove_domain("shop");
        assert!(!rules.check(&plain("bob", "")).is_allowed());
    }

    #[test]
    fn addresses_come_first() {
        let rules = Rules::new();
        rules.allow_anonymous("shop");
        let from = |address: &str| rules.check(&request("shop", address, Credentials::Null)).is_allowed();
        assert!(from("192.0.2.7") && from("") && from("localhost"));
        rules.deny_address("shop", Ipv4Addr::new(192, 0, 2, 7));
        assert!(!from("192.0.2.7") && !from("::ffff:192.0.2.7") && from("192.0.2.8") && from(""));
        rules.allow_address("shop", Ipv4Addr::new(192, 0, 2, 8).to_ipv6_mapped());
        rules.allow_address("shop", Ipv4Addr::new(192, 0, 2, 7));
        assert!(!from("192.0.2.7") && from("192.0.2.8") && !from("192.0.2.9") && !from(""));
        rules.forget_address("shop", Ipv4Addr::new(192, 0, 2, 7));
        assert!(!from("192.0.2.7"), "not denied any more, and not allowed");
        rules.forget_address("shop", Ipv4Addr::new(192, 0, 2, 8));
        assert!(from("192.0.2.7"));
    }

    #[test]
    fn keys_have_user_ids() {
        let rules = Rules::new();
        let check = || rules.check(&request("shop", "", Credentials::Curve { key: KEY }));
        rules.change("shop", |domain| domain.keys.insert(KEY, "alice".into()));
        assert_eq!(check(), Decision::allow().with_user_id("alice"));
        rules.remove_key("shop", KEY);
        assert!(!check().is_allowed());
        rules.change("shop", |domain| domain.any_key = true);
        assert_eq!(check(), Decision::allow().with_user_id(KEY.to_string()));
    }

    #[test]
    fn a_key_without_curve_is_a_clear_error() {
        let rules = Rules::new();
        for added in [rules.add_key("shop", KEY, "alice"), rules.allow_any_key("shop")] {
            assert_eq!(added.is_ok(), crate::features().curve, "{added:?}");
            assert!(matches!(added, Ok(()) | Err(crate::Error::CurveMissing)));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let rules = Rules::new();
        rules.add_user("shop", "alice", "secret");
        assert_eq!(format!("{rules:?}"), r#"{"shop"}"#);
    }
}
