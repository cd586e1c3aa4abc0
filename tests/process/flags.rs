//! Flags, environment and exit codes.

use std::net::{TcpListener, UdpSocket};

use crate::http::get;
use crate::process::{Process, run, run_unheard};

#[test]
fn help_and_version_exit_with_code_0() {
    for (flag, expected) in [
        ("--help", "--public-ip"),
        ("-h", "--addr"),
        ("-help", "SERVER_ADDR"),
        ("--version", env!("CARGO_PKG_VERSION")),
    ] {
        let ended = run(&[flag], &[]);
        assert_eq!((ended.code, ended.stderr.len()), (Some(0), 0), "{flag}: {:?}", ended.stderr);
        assert!(ended.stdout.iter().any(|line| line.contains(expected)), "{flag}: {:?}", ended.stdout);
    }
}

#[test]
fn a_setting_that_cannot_work_gives_one_error_line_that_names_it() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp_addr = udp.local_addr().unwrap().to_string();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_addr = taken.local_addr().unwrap().to_string();
    let free = "127.0.0.1:0";
    for (args, env, names) in [
        (&["--addr", "nowhere"][..], &[][..], "--addr (SERVER_ADDR)"),
        (&[], &[("SERVER_ADDR", "nowhere")], "--addr (SERVER_ADDR)"),
        (&["--max-rooms=many"], &[], "--max-rooms (MAX_ROOMS)"),
        (&["--last-n", "all"], &[], "--last-n (LAST_N)"),
        (&["--adr", ":1"], &[], "--adr"),
        (&["surplus"], &[], "surplus"),
        (&["--addr", &taken_addr], &[], "--addr (SERVER_ADDR)"),
        (&[], &[("SERVER_ADDR", &taken_addr)], "--addr (SERVER_ADDR)"),
        (&["--addr", free, "--media-addr", &udp_addr], &[], "--media-addr (MEDIA_ADDR)"),
        (&["--addr", free], &[("MEDIA_ADDR", &udp_addr)], "--media-addr (MEDIA_ADDR)"),
        // No interface has an address of TEST-NET-3 (RFC 5737).
        (&["--addr", "203.0.113.1:0"], &[], "--addr (SERVER_ADDR)"),
        (&["--addr", free, "--media-addr", "203.0.113.1:0"], &[], "--media-addr (MEDIA_ADDR)"),
        (&["--addr", free, "--www", "/nowhere"], &[], "--www (WWW_DIR)"),
        (&["--addr", free], &[("WWW_DIR", "/nowhere")], "--www (WWW_DIR)"),
        (&["--addr", free, "--www", "/dev/null"], &[], "--www (WWW_DIR)"),
        (&["--addr", free], &[("TOKEN_SECRET", "short")], "--token-secret (TOKEN_SECRET)"),
        (&["--addr", free, "--token-secret-file", "/nowhere"], &[], "--token-secret-file (TOKEN_SECRET_FILE)"),
        (&["--addr", free], &[("TOKEN_SECRET_FILE", "/dev/null")], "--token-secret-file (TOKEN_SECRET_FILE)"),
        (&["--tls-cert", "/nowhere"], &[], "--tls-key (TLS_KEY)"),
    ] {
        let ended = run(args, env);
        assert_eq!(ended.code, Some(1), "{args:?} {env:?}: {:?}", ended.stderr);
        assert_eq!(ended.stderr.len(), 1, "{args:?} {env:?}: {:?}", ended.stderr);
        assert!(ended.stderr[0].contains(names), "{args:?} {env:?}: {:?}", ended.stderr);
        assert!(ended.stdout.is_empty(), "{args:?} {env:?}: {:?}", ended.stdout);
    }
}

#[test]
fn exit_codes_do_not_depend_on_whether_the_output_is_read() {
    assert_eq!(run_unheard(&["--help"]), Some(0));
    assert_eq!(run_unheard(&["--addr", "nowhere"]), Some(1));
}

#[test]
fn flags_take_precedence_over_the_environment() {
    let env = [("SERVER_ADDR", "nowhere"), ("PATH_PREFIX", "/env"), ("MAX_ROOMS", "7")];
    let process = Process::start_with(&["--addr", "127.0.0.1:0", "--prefix", "/flag"], &env);
    assert_eq!(get(process.addr(), "/flag/health").status, 200);
    assert_eq!(get(process.addr(), "/env/health").status, 404);

    let process = Process::start_with(&["--addr", "127.0.0.1:0"], &[("PATH_PREFIX", "env")]);
    assert_eq!(get(process.addr(), "/env/health").status, 200);
    assert_eq!(get(process.addr(), "/aq_server/health").status, 404);
}

#[test]
fn go_style_flags_work() {
    let process = Process::start(&["-addr", ":0", "-prefix=/x", "-log-level", "off"]);
    assert_eq!(get(process.addr(), "/x/health").status, 200);
    assert_eq!(get(process.addr(), "/").header("location"), Some("/x/"));
    // An address without a host, as in Go, means IPv4 and IPv6, if the machine has IPv6.
    if UdpSocket::bind("[::1]:0").is_ok() {
        assert_eq!(get(([0, 0, 0, 0, 0, 0, 0, 1], process.port()).into(), "/x/health").status, 200);
    }
}
