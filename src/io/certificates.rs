//! The certificates of HTTPS, updated at run time when their files or the machine's addresses change.
//!
//! Renewed files are read again. The certificate of `--tls auto` is replaced before it expires. For addresses and names
//! that it does not cover there is a second certificate. Browsers whose users have trusted the first one therefore keep
//! seeing it wherever it is valid.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use log::{info, warn};

use crate::config::{Config, Tls};
use crate::io::interfaces::{self, LanNames};
use crate::io::tls::{TlsAcceptor, TlsError};

/// The served certificates and their source.
pub struct Certificates {
    /// The first certificate, and the second one for addresses that the first does not cover, if there is one.
    acceptors: Vec<TlsAcceptor>,
    source: Source,
    /// The error that was last logged, so that it is not repeated.
    warned: Option<String>,
}

enum Source {
    Files {
        paths: [PathBuf; 2],
        /// Modification times when the files were loaded, and when they were last checked. Files that are being
        /// replaced are not loaded until two checks agree.
        loaded: Changed,
        seen: Changed,
    },
    Auto {
        public: Vec<IpAddr>,
        state_dir: PathBuf,
        /// The names that the certificates were last made for.
        names: LanNames,
    },
}

/// Modification times of certificate and key; `None` if unreadable.
type Changed = [Option<SystemTime>; 2];

impl Certificates {
    /// Loads or creates the certificate that `config` names; `None` for plain HTTP. With `--tls auto` it may write to
    /// the state folder.
    ///
    /// # Errors
    /// Returns one line for the user, which names the setting to change.
    pub fn open(config: &Config) -> Result<Option<Self>, TlsError> {
        let (acceptor, source) = match &config.tls {
            Tls::Off => return Ok(None),
            Tls::Files { cert, key } => {
                let loaded = changed(cert, key);
                let source = Source::Files { paths: [cert.clone(), key.clone()], loaded, seen: loaded };
                (TlsAcceptor::from_files(cert, key)?, source)
            }
            Tls::Auto => {
                let public: Vec<IpAddr> = config.public_ips.iter().map(|public_ip| public_ip.addr).collect();
                let names = names(&public).map_err(TlsError::no_addresses)?;
                let acceptor = TlsAcceptor::auto(SystemTime::now(), &names, &config.state_dir)?;
                (acceptor, Source::Auto { public, state_dir: config.state_dir.clone(), names })
            }
        };
        Ok(Some(Self { acceptors: vec![acceptor], source, warned: None }))
    }

    /// Returns the SHA-256 of the first certificate in the form that browsers show, `AA:BB:..`.
    pub fn fingerprint(&self) -> &str {
        self.acceptors[0].fingerprint()
    }

    /// Returns the certificate for connections to this local address. A client that asks for a name that only another
    /// certificate covers gets that one.
    pub fn of(&self, local: IpAddr) -> &TlsAcceptor {
        let covers = |acceptor: &&TlsAcceptor| acceptor.covers(local.to_canonical());
        self.acceptors.iter().find(covers).unwrap_or(&self.acceptors[self.acceptors.len() - 1])
    }

    /// Replaces or adds a certificate if files, addresses or its expiry require it. Only new connections see the
    /// change.
    pub fn follow(&mut self, wall: SystemTime) {
        let found = match &self.source {
            Source::Files { .. } => self.follow_files(),
            Source::Auto { public, .. } => match names(public) {
                Ok(names) => self.follow_names(wall, names),
                Err(error) => Some(Err(TlsError::no_addresses(error))),
            },
        };
        match found {
            Some(Ok(acceptor)) => self.serve(acceptor, wall),
            Some(Err(error)) => self.warn(&error),
            None => {}
        }
    }

    fn follow_files(&mut self) -> Option<Result<TlsAcceptor, TlsError>> {
        let Source::Files { paths: [cert, key], loaded, seen } = &mut self.source else {
            return None;
        };
        let now = changed(cert, key);
        let is_settled = std::mem::replace(seen, now) == now;
        if !is_settled || *loaded == now {
            return None;
        }
        // A file that cannot be read now may get another owner or mode: try again at the next check.
        let read = TlsAcceptor::from_files(cert, key);
        if read.is_ok() {
            *loaded = now;
        }
        Some(read)
    }

    fn follow_names(&mut self, wall: SystemTime, names: LanNames) -> Option<Result<TlsAcceptor, TlsError>> {
        let Source::Auto { state_dir, names: known, .. } = &mut self.source else {
            return None;
        };
        if !self.acceptors[0].expires_soon(wall) && names == *known {
            return None;
        }
        let made = TlsAcceptor::auto(wall, &names, state_dir);
        if made.is_ok() {
            *known = names;
        }
        Some(made)
    }

    fn serve(&mut self, acceptor: TlsAcceptor, wall: SystemTime) {
        self.warned = None;
        let is_second = matches!(self.source, Source::Auto { .. }) && !self.acceptors[0].expires_soon(wall);
        // Only for `--tls auto`: files may contain a new chain for the same certificate.
        if is_second && self.acceptors.iter().any(|served| served.fingerprint() == acceptor.fingerprint()) {
            return;
        }
        let fingerprint = acceptor.fingerprint();
        if is_second {
            info!(
                "addresses or names of this machine changed: a second certificate is served for those that the first \
                 does not cover, SHA-256 {fingerprint}"
            );
        } else {
            info!("certificate replaced for new connections, SHA-256 {fingerprint}");
        }
        self.acceptors.truncate(usize::from(is_second));
        self.acceptors.push(acceptor);
        self.acceptors = self.acceptors.iter().map(|acceptor| acceptor.with_others(&self.acceptors)).collect();
    }

    fn warn(&mut self, error: &TlsError) {
        let error = error.to_string();
        if self.warned.as_ref() != Some(&error) {
            warn!("certificate not replaced: {error}");
            self.warned = Some(error);
        }
    }
}

fn names(public: &[IpAddr]) -> io::Result<LanNames> {
    let mut names = interfaces::lan_names()?;
    for addr in public {
        if !names.addrs.contains(addr) {
            names.addrs.push(*addr);
        }
    }
    Ok(names)
}

fn changed(cert: &Path, key: &Path) -> Changed {
    [cert, key].map(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::io::tls::tests::connects;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("aq-certificates-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    fn names(addrs: &[&str]) -> LanNames {
        LanNames { host_name: None, addrs: addrs.iter().map(|addr| addr.parse().unwrap()).collect() }
    }

    /// Returns the certificates of `--tls auto` on a machine with the address 192.0.2.1.
    fn auto(wall: SystemTime, state_dir: &Path) -> Certificates {
        let names = names(&["192.0.2.1"]);
        let acceptor = TlsAcceptor::auto(wall, &names, state_dir).unwrap();
        let source = Source::Auto { public: Vec::new(), state_dir: state_dir.to_owned(), names };
        Certificates { acceptors: vec![acceptor], source, warned: None }
    }

    fn of(certificates: &Certificates, addr: &str) -> String {
        certificates.of(addr.parse().unwrap()).fingerprint().to_owned()
    }

    #[test]
    fn the_configuration_selects_the_source() {
        let state_dir = folder("open");
        let plain = Config::default();
        assert!(Certificates::open(&plain).unwrap().is_none());
        let auto = Config { tls: Tls::Auto, state_dir: state_dir.clone(), ..plain };
        let made = Certificates::open(&auto).unwrap().unwrap();
        let tls = Tls::Files { cert: state_dir.join("cert.pem"), key: state_dir.join("key.pem") };
        let read = Certificates::open(&Config { tls, ..auto }).unwrap().unwrap();
        assert_eq!(made.fingerprint(), read.fingerprint());
        fs::remove_dir_all(state_dir).unwrap();
    }

    #[test]
    fn new_addresses_get_a_second_certificate_and_the_others_keep_the_first() {
        let state_dir = folder("auto");
        let wall = SystemTime::now();
        let mut certificates = auto(wall, &state_dir);
        let before = certificates.fingerprint().to_owned();
        let follow = |certificates: &mut Certificates, wall, addrs: &[&str]| {
            if let Some(found) = certificates.follow_names(wall, names(addrs)) {
                certificates.serve(found.unwrap(), wall);
            }
            assert!(certificates.acceptors.len() <= 2);
        };
        // The addresses of the machine, and those at which another certificate is served.
        for (addrs, others) in [
            (&["192.0.2.1"][..], &[][..]),
            (&[], &[]),
            (&["192.0.2.1", "192.0.2.9"], &["192.0.2.9"]),
            (&["192.0.2.9"], &["192.0.2.9"]),
            (&["192.0.2.1", "192.0.2.5"], &["192.0.2.5"]),
            // Temporary addresses change daily.
            (&["192.0.2.1", "192.0.2.5", "2001:db8::7"], &["192.0.2.5"]),
        ] {
            follow(&mut certificates, wall, addrs);
            for addr in ["192.0.2.1", "127.0.0.1", "::ffff:192.0.2.1"] {
                assert_eq!(of(&certificates, addr), before, "{addr} of {addrs:?}");
            }
            for addr in others {
                assert_ne!(of(&certificates, addr), before, "{addr} of {addrs:?}");
                assert!(certificates.of(addr.parse().unwrap()).covers(addr.parse().unwrap()));
            }
        }
        // Before it expires it is replaced for all addresses.
        follow(&mut certificates, wall + 385 * DAY, &["192.0.2.1"]);
        assert_eq!(of(&certificates, "192.0.2.1"), before);
        follow(&mut certificates, wall + 391 * DAY, &["192.0.2.1"]);
        assert_ne!(of(&certificates, "192.0.2.1"), before);
        assert_eq!(certificates.acceptors.len(), 1);
        fs::remove_dir_all(state_dir).unwrap();
    }

    /// The machine is renamed. The first certificate still covers the address that clients of the new name connect to.
    #[test]
    fn a_client_that_asks_for_a_name_gets_a_certificate_that_covers_it() {
        let state_dir = folder("names");
        let wall = SystemTime::now();
        let of = |name: &str| LanNames { host_name: Some(name.to_owned()), ..names(&["192.0.2.1"]) };
        let acceptor = TlsAcceptor::auto(wall, &of("box"), &state_dir).unwrap();
        let first = fs::read(state_dir.join("cert.pem")).unwrap();
        let source = Source::Auto { public: Vec::new(), state_dir: state_dir.clone(), names: of("box") };
        let mut certificates = Certificates { acceptors: vec![acceptor], source, warned: None };
        let found = certificates.follow_names(wall, of("den")).expect("the new name needs a certificate");
        certificates.serve(found.unwrap(), wall);
        let second = fs::read(state_dir.join("cert.pem")).unwrap();
        assert!(first != second && certificates.acceptors.len() == 2);
        // Local address, requested name, and whether the first certificate is served.
        for (addr, host, is_first) in [
            ("192.0.2.1", "box", true),
            ("192.0.2.1", "den", false),
            ("192.0.2.1", "den.local", false),
            ("192.0.2.1", "DEN", false),
            ("192.0.2.1", "localhost", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.9", "box", true),
            ("192.0.2.9", "den", false),
            ("192.0.2.9", "localhost", false),
        ] {
            let served = certificates.of(addr.parse().unwrap());
            let got = [&first, &second].map(|cert| connects(served, cert, host, wall));
            assert_eq!(got, [is_first, !is_first], "{host} at {addr}");
        }
        fs::remove_dir_all(state_dir).unwrap();
    }

    /// The second certificate expires later. It must not keep the first from being replaced.
    #[test]
    fn an_expiring_certificate_is_replaced_although_there_is_a_second_one() {
        let state_dir = folder("beside");
        let wall = SystemTime::now();
        let mut certificates = auto(wall, &state_dir);
        let before = certificates.fingerprint().to_owned();
        for (days, served) in [(100, 2), (391, 1), (392, 1)] {
            let wall = wall + days * DAY;
            if let Some(found) = certificates.follow_names(wall, names(&["192.0.2.1", "192.0.2.9"])) {
                certificates.serve(found.unwrap(), wall);
            }
            assert_eq!(certificates.acceptors.len(), served, "after {days} days");
            assert_eq!(of(&certificates, "192.0.2.1") == before, served == 2, "after {days} days");
            assert!(
                certificates.follow_names(wall, names(&["192.0.2.1", "192.0.2.9"])).is_none(),
                "nothing changes without a reason"
            );
        }
        fs::remove_dir_all(state_dir).unwrap();
    }

    #[test]
    fn renewed_files_are_read_when_both_have_settled() {
        let [folder, other] = ["files", "other"].map(folder);
        let wall = SystemTime::now();
        for folder in [&folder, &other] {
            TlsAcceptor::auto(wall, &names(&[]), folder).unwrap();
        }
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        let config = Config { tls: Tls::Files { cert: cert.clone(), key: key.clone() }, ..Config::default() };
        let mut certificates = Certificates::open(&config).unwrap().unwrap();
        let before = certificates.fingerprint().to_owned();
        let mut check = |count: usize| {
            (0..count).for_each(|_| certificates.follow(wall));
            (certificates.fingerprint().to_owned(), certificates.warned.clone().unwrap_or_default())
        };
        assert_eq!(check(3), (before.clone(), String::new()));
        let replace = |path: &Path| {
            fs::copy(other.join(path.file_name().unwrap()), path).unwrap();
            // Some file systems have coarse timestamps.
            let changed = SystemTime::now() + DAY;
            fs::File::options().write(true).open(path).unwrap().set_modified(changed).unwrap();
        };
        replace(&cert);
        assert_eq!(check(1), (before.clone(), String::new()), "the other file may still change");
        let (fingerprint, warned) = check(3);
        assert!(fingerprint == before && warned.contains("--tls-cert"), "{warned}");
        replace(&key);
        assert_eq!(check(1).0, before);
        let (fingerprint, warned) = check(1);
        assert!(fingerprint != before && warned.is_empty(), "{warned}");
        for folder in [folder, other] {
            fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn unusable_files_are_loaded_when_they_become_usable() {
        let [folder, other] = ["broken", "good"].map(folder);
        let wall = SystemTime::now();
        for folder in [&folder, &other] {
            TlsAcceptor::auto(wall, &names(&[]), folder).unwrap();
        }
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        let good = ["cert.pem", "key.pem"].map(|name| fs::read(other.join(name)).unwrap());
        let config = Config { tls: Tls::Files { cert: cert.clone(), key: key.clone() }, ..Config::default() };
        let mut certificates = Certificates::open(&config).unwrap().unwrap();
        let before = certificates.fingerprint().to_owned();
        let mut seconds = 0;
        let mut put = |path: &Path, contents: &[u8]| {
            fs::write(path, contents).unwrap();
            seconds += 10;
            let changed = wall + Duration::from_secs(seconds);
            fs::File::options().write(true).open(path).unwrap().set_modified(changed).unwrap();
        };
        type Break<'a> = (&'a str, Box<dyn Fn(&mut dyn FnMut(&Path, &[u8])) + 'a>);
        let breaks: [Break<'_>; 5] = [
            ("--tls-cert", Box::new(|put| put(&cert, b"no certificate"))),
            ("--tls-key", Box::new(|put| (put(&cert, &good[0]), put(&key, &good[1][..60])).0)),
            ("--tls-key", Box::new(|put| (put(&cert, &good[0]), put(&key, b"")).0)),
            ("--tls-key", Box::new(|_| fs::remove_file(&key).unwrap())),
            ("--tls-cert", Box::new(|_| (fs::remove_file(&cert).unwrap(), fs::create_dir(&cert).unwrap()).0)),
        ];
        for (case, (setting, break_them)) in breaks.iter().enumerate() {
            break_them(&mut put);
            (0..3).for_each(|_| certificates.follow(wall));
            let warned = certificates.warned.clone().unwrap_or_default();
            assert!(certificates.fingerprint() == before && warned.contains(setting), "case {case}: {warned}");
        }
        // A change of mode or owner does not change the modification time.
        fs::remove_dir(&cert).unwrap();
        put(&cert, b"not yet");
        put(&key, &good[1]);
        (0..3).for_each(|_| certificates.follow(wall));
        assert!(certificates.fingerprint() == before && certificates.warned.is_some());
        let changed = fs::metadata(&cert).unwrap().modified().unwrap();
        fs::write(&cert, &good[0]).unwrap();
        fs::File::options().write(true).open(&cert).unwrap().set_modified(changed).unwrap();
        (0..3).for_each(|_| certificates.follow(wall));
        assert!(certificates.fingerprint() != before && certificates.warned.is_none());
        for folder in [folder, other] {
            fs::remove_dir_all(folder).unwrap();
        }
    }
}
