//! A test's TCP connection, with or without TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::process::DEADLINE;

/// Bytes to and from a server; reads end with `WouldBlock` after a timeout.
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    pub fn plain(addr: SocketAddr) -> Self {
        Self::Plain(connect(addr))
    }

    /// Connects with TLS. The server's certificate has to be valid for `name` and issued by `trusted`.
    pub fn tls(addr: SocketAddr, name: &str, trusted: &CertificateDer<'static>) -> Self {
        Self::tls_over(connect(addr), name, trusted)
    }

    /// The same over an existing connection.
    pub fn tls_over(tcp: TcpStream, name: &str, trusted: &CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = versions.expect("versions fit the provider").with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name or an address");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
        Self::Tls(Box::new(StreamOwned::new(connection, tcp)))
    }

    /// Sets how long a read waits.
    pub fn set_patience(&self, patience: Duration) {
        self.tcp().set_read_timeout(Some(patience)).expect("above zero");
    }

    /// Makes a read return at once.
    pub fn set_nonblocking(&self) {
        self.tcp().set_nonblocking(true).expect("a TCP socket");
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Plain(tcp) => tcp.read(buffer),
                Self::Tls(tls) => tls.read(buffer),
            };
            // A read with a timeout is interrupted when the machine or the process was stopped (signal(7)).
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect_timeout(&addr, DEADLINE).unwrap_or_else(|error| panic!("{addr}: {error}"));
    tcp.set_nodelay(true).expect("a TCP socket");
    tcp.set_read_timeout(Some(DEADLINE)).expect("above zero");
    tcp.set_write_timeout(Some(DEADLINE)).expect("above zero");
    tcp
}
