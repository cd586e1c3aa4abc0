//! A network outage between real browsers and the server: pictures return at once afterwards. The test is skipped without
//! the privilege to change the firewall, unless `AQ_REQUIRE_IPTABLES=1` is set.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::chromium::Chromium;
use crate::page::tile;
use crate::program::Program;
use crate::skip;
use crate::turn::alone;

/// Maximum time from the end of an outage to the next picture, with tolerance for a busy machine.
const BACK: Duration = Duration::from_millis(1_500);

/// Firewall rules that drop datagrams to and from a UDP port, removed on drop.
struct Firewall(Vec<[String; 2]>);

impl Firewall {
    /// Adds the rules. Returns `None` if the firewall can't be changed.
    fn close(port: &str) -> Option<Self> {
        let rules = ["--dport", "--sport"].map(|side| [side.to_owned(), port.to_owned()]);
        let firewall = Self(rules.into());
        firewall.0.iter().all(|rule| iptables("-I", rule)).then_some(firewall)
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        self.0.iter().for_each(|rule| _ = iptables("-D", rule));
    }
}

fn iptables(verb: &str, [side, port]: &[String; 2]) -> bool {
    let args = ["-w", verb, "INPUT", "-i", "lo", "-p", "udp", side, port, "-j", "DROP"];
    Command::new("iptables").args(args).output().is_ok_and(|output| output.status.success())
}

#[test]
fn pictures_return_at_once_after_an_outage() {
    let _turn = alone();
    let Some(mut chromium) = Chromium::start_at_full_rate() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    let authority = server.url.split('/').nth(2).expect("a URL has an authority");
    let port = authority.rsplit(':').next().expect("a port").to_owned();
    let frames = |name| format!("{}.getVideoPlaybackQuality().totalVideoFrames", video(name));
    let frames = [frames("Bob"), frames("Ann")];
    // The last one ends ICE consent.
    for secs in [1, 5, 16] {
        // A busy machine may delay a picture: one of three rounds has to meet the limit.
        let mut rounds = Vec::new();
        while rounds.last().is_none_or(|slowest| *slowest >= BACK) {
            assert!(rounds.len() < 3, "pictures returned {rounds:?} after outages of {secs} s");
            let Some(firewall) = Firewall::close(&port) else {
                return skip("IPTABLES", "iptables can't be changed: outages are not tested");
            };
            thread::sleep(Duration::from_secs(secs));
            drop(firewall);
            let over = Instant::now();
            let mut pages = [&mut ann, &mut bob];
            let before: Vec<u64> = (0..2).map(|at| pages[at].eval(&frames[at])).collect();
            let mut came = [None; 2];
            while came.contains(&None) {
                assert!(over.elapsed() < Duration::from_secs(10), "no picture after {secs} s: {came:?}");
                for at in 0..2 {
                    if came[at].is_none() && pages[at].eval::<u64>(&frames[at]) > before[at] + 1 {
                        came[at] = Some(over.elapsed());
                    }
                }
            }
            rounds.push(came.into_iter().flatten().max().expect("both pages have pictures"));
        }
    }
}

/// The element that shows a participant's camera.
fn video(name: &str) -> String {
    format!("{}.querySelector('video')", tile(name))
}
