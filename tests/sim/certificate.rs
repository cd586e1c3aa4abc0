//! The certificate of every browser: a constant, so that the same seed gives the same SDP, and because generating one
//! is slow.

use data_encoding::BASE64;
use str0m::crypto::dtls::DtlsCert;

const CERTIFICATE: &str = "MIIBczCCARmgAwIBAgIUN+hLCWBM4fiMcCoD0jCvRyoe2LcwCgYIKoZIzj0EAwIwDjEMMAoGA1UEAwwDc2ltMCAXDTI2MTEyNTE5\
     MDQ1NFoYDzIxMjYxMTAxMTkwNDU0WjAOMQwwCgYDVQQDDANzaW0wWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATnj5OEOCud8+rV\
     3V/d9WiosKIcH3WxwXE2G69wI8/fJcdcobWTtSP23Pc1sru74A7xPk4IHTOTaWRo21ZoY3Odo1MwUTAdBgNVHQ4EFgQUbw23lDmF\
     TryrNSRKC1tV1fqoIcEwHwYDVR0jBBgwFoAUbw23lDmFTryrNSRKC1tV1fqoIcEwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQD\
     AgNIADBFAiEAjGkJ+dwtsG1T8m1Ra6jFsS54mgT5ExFgA1AfcrDAau8CIHN1+go75hDODtYb4VLq2oKXQcrzw9WvZOiCPZ8YJBg9";

const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgfgM/hphHiYegRHl/m7M+G++W2JDoGpx2yGc+5tNk5fChRANCAATn\
     j5OEOCud8+rV3V/d9WiosKIcH3WxwXE2G69wI8/fJcdcobWTtSP23Pc1sru74A7xPk4IHTOTaWRo21ZoY3Od";

pub fn certificate() -> DtlsCert {
    let decode = |text: &str| BASE64.decode(text.as_bytes()).expect("the constants are valid Base64");
    DtlsCert { certificate: decode(CERTIFICATE), private_key: decode(KEY) }
}
