//! temp stub
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoCodec { Vp8, H264, Vp9, Av1 }
#[derive(Clone, Debug)]
pub struct PublicIp { pub addr: IpAddr, pub beside: bool }
#[derive(Clone, Debug)]
pub enum Tls { Off, Files { cert: PathBuf, key: PathBuf }, Auto }
#[derive(Clone, Debug)]
pub struct Limits { pub max_rooms: usize, pub max_participants: usize, pub max_room_size: usize, pub max_conns: usize, pub max_conns_per_addr: usize, pub max_pending: usize, pub chat_history: usize }
#[derive(Clone, Debug)]
pub struct Config { pub addr: SocketAddr, pub prefix: String, pub media_addr: SocketAddr, pub public_ips: Vec<PublicIp>, pub allow_origins: Vec<String>, pub codecs: Vec<VideoCodec>, pub log_level: log::LevelFilter, pub www: Option<PathBuf>, pub tls: Tls, pub state_dir: PathBuf, pub limits: Limits }
impl Default for Config { fn default() -> Self { Self { addr: "[::]:8080".parse().unwrap(), prefix: "/aq_server".into(), media_addr: "[::]:8080".parse().unwrap(), public_ips: vec![], allow_origins: vec![], codecs: vec![VideoCodec::Vp8, VideoCodec::H264, VideoCodec::Vp9, VideoCodec::Av1], log_level: log::LevelFilter::Info, www: None, tls: Tls::Off, state_dir: PathBuf::new(), limits: Limits { max_rooms: 1000, max_participants: 10000, max_room_size: 100, max_conns: 10000, max_conns_per_addr: 100, max_pending: 1000, chat_history: 50 } } } }
pub enum Parsed { Run(Box<Config>), Say(String) }
impl Config { pub fn parse(_: impl Iterator<Item = std::ffi::OsString>) -> Result<Parsed, String> { Ok(Parsed::Run(Box::new(Config{ log_level: log::LevelFilter::Debug, ..Config::default()}))) } }
