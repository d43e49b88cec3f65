"""Makes the keys and tokens beside this file, by PyJWT and cryptography: pip install pyjwt cryptography.

tokens.json holds, under a name, the token and whether it is to be taken: "ok", or the beginning of the reason why not.
"""
import base64, hashlib, hmac, json, pathlib
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

here = pathlib.Path(__file__).parent
SECRET = "0123456789abcdef0123456789abcdef"
LONG_AGO, SOON, FAR = 1_000_000_000, 4_000_000_000, 4_100_000_000

def pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

keys = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "ec": ec.generate_private_key(ec.SECP256R1()),
    "ed": ed25519.Ed25519PrivateKey.generate(),
    "other": rsa.generate_private_key(65537, 2048),
    "small": rsa.generate_private_key(65537, 1024),
    "p384": ec.generate_private_key(ec.SECP384R1()),
}
for name, key in keys.items():
    (here / f"{name}.pem").write_bytes(pem(key))
algorithms = {"rsa": ("RS256", jwt.algorithms.RSAAlgorithm), "ec": ("ES256", jwt.algorithms.ECAlgorithm),
              "ed": ("EdDSA", jwt.algorithms.OKPAlgorithm)}
jwks = []
for name, (algorithm, kind) in algorithms.items():
    jwk = json.loads(kind.to_jwk(keys[name].public_key()))
    jwks.append({**jwk, "kid": f"set-{name}", "alg": algorithm, "use": "sig"})
(here / "jwks.json").write_text(json.dumps({"keys": jwks}, indent=1) + "\n")

def claims(**other):
    all = {"iss": "https://sso.example", "aud": "kafkeep", "sub": "alice", "exp": FAR, "scope": "read backup", **other}
    return {name: value for name, value in all.items() if value is not None}

def raw(header, body, sign):
    b64 = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")
    message = b64(json.dumps(header).encode()) + b"." + b64(json.dumps(body).encode())
    return (message + b"." + b64(sign(message))).decode()

def hs(body, secret=SECRET, kid="hs", **header):
    return jwt.encode(body, secret, "HS256", headers={"kid": kid, **header})

by_public_key = lambda message: hmac.new(pem(keys["rsa"]), message, hashlib.sha256).digest()
by_secret = lambda message: hmac.new(SECRET.encode(), message, hashlib.sha256).digest()
tokens = {
    "hs": (hs(claims()), "ok"),
    "audience-list": (hs(claims(aud=["x", "kafkeep"])), "ok"),
    "scopes-list": (hs(claims(scope=None, scopes=["read", "backup", "unheard-of"])), "ok"),
    "not-before-is-over": (hs(claims(nbf=LONG_AGO)), "ok"),
    # When a token was made is nobody's business but its maker's.
    "made-in-the-future": (hs(claims(iat=SOON)), "ok"),
    "expired": (hs(claims(exp=LONG_AGO)), "it has expired"),
    "not-yet": (hs(claims(nbf=SOON)), "it is not valid yet"),
    "not-before-is-no-time": (hs(claims(nbf="soon")), "it lacks"),
    "expiry-is-a-text": (raw({"alg": "HS256", "kid": "hs"}, claims(exp=str(FAR)), by_secret), "it lacks"),
    "expiry-is-negative": (raw({"alg": "HS256", "kid": "hs"}, claims(exp=-1), by_secret), "it lacks"),
    "no-expiry": (hs(claims(exp=None)), "it lacks"),
    "no-issuer": (hs(claims(iss=None)), "it lacks"),
    "no-audience": (hs(claims(aud=None)), "it lacks"),
    "no-subject": (hs(claims(sub=None)), "it lacks"),
    "empty-subject": (hs(claims(sub="")), "its subject"),
    "other-issuer": (hs(claims(iss="https://sso.other")), "its issuer"),
    "other-audience": (hs(claims(aud="other")), "its audience"),
    "bad-pattern": (hs(claims(topics=["/(/"])), "its clusters or topics"),
    "subject-without-end": (hs(claims(sub="x" * 257)), "its subject"),
    "scope-is-a-number": (hs(claims(scope=7)), "it is no token"),
    "claims-are-a-list": (raw({"alg": "HS256", "kid": "hs"}, [claims()], by_secret), "it is no token"),
    "clusters-are-no-list": (hs(claims(clusters="prod")), "it is no token"),
    "other-secret": (hs(claims(), secret="x" * 32), "its signature"),
    "unknown-key": (hs(claims(), kid="nobody"), "its key is not known"),
    "no-key": (jwt.encode(claims(), SECRET, "HS256"), "it names no key"),
    "critical": (raw({"alg": "HS256", "kid": "hs", "crit": ["exp"]}, claims(), by_secret), "it demands"),
    "hs512": (jwt.encode(claims(), SECRET, "HS512", headers={"kid": "hs"}), "its algorithm"),
    "none": (raw({"alg": "none", "kid": "hs"}, claims(), lambda _: b""), "it is no token"),
    "none-for-rsa": (raw({"alg": "none", "kid": "rsa"}, claims(), lambda _: b""), "it is no token"),
    "confused": (raw({"alg": "HS256", "kid": "rsa"}, claims(), by_public_key), "its algorithm"),
    "rsa-as-other": (jwt.encode(claims(), keys["other"], "RS256", headers={"kid": "rsa"}), "its signature"),
    "brings-its-own-key": (jwt.encode(claims(), keys["other"], "RS256", headers={
        "kid": "rsa", "jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(keys["other"].public_key()))}), "its signature"),
    "names-a-key-elsewhere": (jwt.encode(claims(), keys["other"], "RS256", headers={
        "kid": "rsa", "jku": "https://sso.other/jwks.json"}), "its signature"),
    "rsa-under-secret": (jwt.encode(claims(), keys["rsa"], "RS256", headers={"kid": "hs"}), "its algorithm"),
    "rs512": (jwt.encode(claims(), keys["rsa"], "RS512", headers={"kid": "rsa"}), "its algorithm"),
}
for name, (algorithm, _) in algorithms.items():
    for kid in [name, f"set-{name}"]:
        tokens[kid] = (jwt.encode(claims(), keys[name], algorithm, headers={"kid": kid}), "ok")
(here / "tokens.json").write_text(json.dumps(tokens, indent=1) + "\n")
