import base64, hmac, json, os, time
part = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")
claims = {"room": "weekly", "sub": "ann", "name": "Ann", "moderate": True, "exp": int(time.time()) + 3600}
token = part(b'{"alg":"HS256"}') + b"." + part(json.dumps(claims).encode())
print((token + b"." + part(hmac.digest(os.environ["TOKEN_SECRET"].encode(), token, "sha256"))).decode())
