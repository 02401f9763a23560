"""Who may ask GCS: OAuth tokens for a service account or a user, and IAM's signBlob."""

from __future__ import annotations

import base64
import json
import secrets
import time
import urllib.parse
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.auth import jwt

from tests.servers.gcsv4 import Refused
from tests.servers.wire import Answer, Call

PROJECT = "test-project"
EMAIL = f"tester@{PROJECT}.iam.gserviceaccount.com"
# google-auth addresses its assertions to this, whatever the credential file's token_uri.
AUDIENCE = "https://oauth2.googleapis.com/token"
TOKEN, EXPIRED_TOKEN, REFRESH_TOKEN = "gcs-test-token", "gcs-expired-token", "gcs-refresh-token"


class Identity:
    """One service account with its key, and the tokens issued so far with the time at which each expires."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.tokens: dict[str, float] = {TOKEN: float("inf"), EXPIRED_TOKEN: 0}

    def check_token(self, call: Call) -> None:
        bearer = call.headers.get("authorization", "").removeprefix("Bearer ")
        if self.tokens.get(bearer, 0) < time.time():
            raise Refused(401, "authError", "Invalid Credentials")

    def account(self, call: Call) -> Answer:
        """The service account's credential file."""
        private = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return as_json(
            {
                "type": "service_account",
                "project_id": PROJECT,
                "private_key_id": "1",
                "private_key": private.decode(),
                "client_email": EMAIL,
                "client_id": "1",
                "token_uri": f"{self.url}/token",
            }
        )

    def token(self, call: Call) -> Answer:
        """OAuth's token endpoint, for a service account's assertion or a user's refresh token."""
        form = dict(urllib.parse.parse_qsl(call.body.decode()))
        public = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        try:
            if form.get("refresh_token") != REFRESH_TOKEN:
                jwt.decode(form["assertion"], certs=public, audience=AUDIENCE)
        except (KeyError, ValueError) as error:
            return as_json({"error": "invalid_grant", "error_description": str(error)}, 400)
        issued = secrets.token_urlsafe(24)
        self.tokens[issued] = time.time() + 3600
        return as_json({"access_token": issued, "expires_in": 3600, "token_type": "Bearer"})

    def sign_blob(self, call: Call, account: str) -> Answer:
        self.check_token(call)
        if account != EMAIL:
            raise Refused(403, "forbidden", "Permission 'iam.serviceAccounts.signBlob' denied")
        payload = base64.b64decode(json.loads(call.body)["payload"])
        signature = self.key.sign(payload, padding.PKCS1v15(), hashes.SHA256())
        return as_json({"keyId": "1", "signedBlob": base64.b64encode(signature).decode()})


def as_json(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=UTF-8"})
