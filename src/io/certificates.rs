//! The certificates that are served. They follow the machine and their files while the server runs.
//!
//! Files that are renewed are read again. A certificate of the server's own making is replaced before it ends. For
//! addresses and names that it does not cover there is a second one: browsers that were told to trust the first see no
//! other where they have seen that one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use log::{info, warn};

use crate::config::{Config, Tls};
use crate::io::interfaces::{self, LanNames};
use crate::io::tls::{TlsAcceptor, TlsError};

/// What is served, and where it comes from.
pub struct Certificates {
    /// The one that is served where it covers the address, then the one that is served elsewhere.
    acceptors: Vec<TlsAcceptor>,
    source: Source,
    /// What the log was last told that can't be done.
    warned: Option<String>,
}

enum Source {
    Files {
        paths: [PathBuf; 2],
        /// When they were changed, as they were loaded and as they were last seen: files that are being replaced are left
        /// alone until both are there.
        loaded: Changed,
        seen: Changed,
    },
    Auto {
        public: Vec<IpAddr>,
        state_dir: PathBuf,
        /// What the certificates were last made for.
        names: LanNames,
    },
}

/// When certificate and key were last changed.
type Changed = [Option<SystemTime>; 2];

impl Certificates {
    /// What `config` asks for, `None` for plain HTTP. Reads files; with `--tls auto` may write the state folder.
    ///
    /// # Errors
    /// One line for the user, who has to change the setting that it names.
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

    /// SHA-256 of the first certificate in the form browsers show, `AA:BB:..`.
    pub fn fingerprint(&self) -> &str {
        self.acceptors[0].fingerprint()
    }

    /// What a connection to this address of the machine is served, unless its client asks for a name that only another one
    /// covers.
    pub fn of(&self, local: IpAddr) -> &TlsAcceptor {
        let covers = |acceptor: &&TlsAcceptor| acceptor.covers(local.to_canonical());
        self.acceptors.iter().find(covers).unwrap_or(&self.acceptors[self.acceptors.len() - 1])
    }

    /// Looks whether something else is to be served to connections that come from now on. Connections that are there keep
    /// what they have.
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
        // What can't be read now may be soon, by another owner or mode.
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
        if !self.acceptors[0].ends_soon(wall) && names == *known {
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
        let is_beside = matches!(self.source, Source::Auto { .. }) && !self.acceptors[0].ends_soon(wall);
        // Files may bring another chain for the same certificate.
        if is_beside && self.acceptors.iter().any(|served| served.fingerprint() == acceptor.fingerprint()) {
            return;
        }
        let fingerprint = acceptor.fingerprint();
        match is_beside {
            true => info!(
                "addresses of this machine changed: where the certificate does not cover them, another is served; \
                 its SHA-256 is {fingerprint}"
            ),
            false => info!("the certificate is replaced for connections from now on; its SHA-256 is {fingerprint}"),
        }
        self.acceptors.truncate(usize::from(is_beside));
        self.acceptors.push(acceptor);
        self.acceptors = self.acceptors.iter().map(|acceptor| acceptor.beside(&self.acceptors)).collect();
    }

    fn warn(&mut self, error: &TlsError) {
        let error = error.to_string();
        if self.warned.as_ref() != Some(&error) {
            warn!("the certificate stays as it is: {error}");
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

    /// Those of `--tls auto` on a machine with the address 192.0.2.1.
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
    fn the_configuration_chooses() {
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
    fn addresses_that_come_get_a_certificate_and_those_that_were_there_keep_theirs() {
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
        // The addresses, and where another certificate is served.
        for (addrs, others) in [
            (&["192.0.2.1"][..], &[][..]),
            (&[], &[]),
            (&["192.0.2.1", "192.0.2.9"], &["192.0.2.9"]),
            (&["192.0.2.9"], &["192.0.2.9"]),
            (&["192.0.2.1", "192.0.2.5"], &["192.0.2.5"]),
            // Temporary addresses change each day.
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
        // Before it ends it is replaced for all.
        follow(&mut certificates, wall + 385 * DAY, &["192.0.2.1"]);
        assert_eq!(of(&certificates, "192.0.2.1"), before);
        follow(&mut certificates, wall + 391 * DAY, &["192.0.2.1"]);
        assert_ne!(of(&certificates, "192.0.2.1"), before);
        assert_eq!(certificates.acceptors.len(), 1);
        fs::remove_dir_all(state_dir).unwrap();
    }

    /// The machine is given another name: the first certificate covers the address to which a client of that name comes.
    #[test]
    fn a_client_that_asks_for_a_name_gets_a_certificate_of_that_name() {
        let state_dir = folder("names");
        let wall = SystemTime::now();
        let of = |name: &str| LanNames { host_name: Some(name.to_owned()), ..names(&["192.0.2.1"]) };
        let acceptor = TlsAcceptor::auto(wall, &of("box"), &state_dir).unwrap();
        let first = fs::read(state_dir.join("cert.pem")).unwrap();
        let source = Source::Auto { public: Vec::new(), state_dir: state_dir.clone(), names: of("box") };
        let mut certificates = Certificates { acceptors: vec![acceptor], source, warned: None };
        let found = certificates.follow_names(wall, of("den")).expect("there is news");
        certificates.serve(found.unwrap(), wall);
        let second = fs::read(state_dir.join("cert.pem")).unwrap();
        assert!(first != second && certificates.acceptors.len() == 2);
        // Where a client comes to, what it asks for, and whether it gets the first certificate.
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

    /// The second certificate was made later: the first is not served for as long as that one lives.
    #[test]
    fn a_certificate_that_ends_is_replaced_by_the_one_beside_it() {
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
                "nothing is left to do"
            );
        }
        fs::remove_dir_all(state_dir).unwrap();
    }

    #[test]
    fn files_that_are_renewed_are_read_when_both_are_there() {
        let [folder, other] = ["files", "other"].map(folder);
        let wall = SystemTime::now();
        for folder in [&folder, &other] {
            TlsAcceptor::auto(wall, &names(&[]), folder).unwrap();
        }
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        let config = Config { tls: Tls::Files { cert: cert.clone(), key: key.clone() }, ..Config::default() };
        let mut certificates = Certificates::open(&config).unwrap().unwrap();
        let before = certificates.fingerprint().to_owned();
        let mut looks = |count: usize| {
            (0..count).for_each(|_| certificates.follow(wall));
            (certificates.fingerprint().to_owned(), certificates.warned.clone().unwrap_or_default())
        };
        assert_eq!(looks(3), (before.clone(), String::new()));
        let replace = |path: &Path| {
            fs::copy(other.join(path.file_name().unwrap()), path).unwrap();
            // As coarse as some file systems are.
            let changed = SystemTime::now() + DAY;
            fs::File::options().write(true).open(path).unwrap().set_modified(changed).unwrap();
        };
        replace(&cert);
        assert_eq!(looks(1), (before.clone(), String::new()), "it may be half of a pair");
        let (fingerprint, warned) = looks(3);
        assert!(fingerprint == before && warned.contains("--tls-cert"), "{warned}");
        replace(&key);
        assert_eq!(looks(1).0, before);
        let (fingerprint, warned) = looks(1);
        assert!(fingerprint != before && warned.is_empty(), "{warned}");
        for folder in [folder, other] {
            fs::remove_dir_all(folder).unwrap();
        }
    }

    /// Whatever is wrong with the files, the log is told once, and they are read when they are good.
    #[test]
    fn files_that_can_not_be_used_are_read_again_when_they_can() {
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
        // Another mode or owner changes no file, as far as its times tell.
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
