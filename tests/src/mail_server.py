"""A mail server for tests: aiosmtpd with TLS and a log-in, which tells all that it hears, a line of JSON each.

    mail_server.py PORT plain|starttls|tls CERTIFICATE KEY PASSWORD

The one who may log in is `strongroom`. `plain` offers no TLS, and takes passwords all the same.
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

port, mode, certificate, key, password = sys.argv[1:]


def tell(server, **what):
    what["protected"] = server.transport.get_extra_info("sslcontext") is not None
    print(json.dumps(what), flush=True)


class Handler:
    async def handle_MAIL(self, server, session, envelope, address, options):
        tell(server, heard="MAIL")
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 fine"

    async def handle_DATA(self, server, session, envelope):
        tell(server, heard="DATA", mail=envelope.content.decode("utf-8", "replace"))
        return "250 taken"


def check(server, session, envelope, mechanism, sent):
    tell(server, heard="AUTH")
    right = sent.login == b"strongroom" and sent.password == password.encode()
    return AuthResult(success=right, handled=False, auth_data=sent)


async def serve():
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def conversation():
        return SMTP(
            Handler(),
            loop=loop,
            hostname="localhost",
            authenticator=check,
            auth_required=mode != "plain",
            auth_require_tls=mode == "starttls",
            require_starttls=mode == "starttls",
            tls_context=context if mode == "starttls" else None,
        )

    server = await loop.create_server(
        conversation, "127.0.0.1", int(port), ssl=context if mode == "tls" else None
    )
    await server.serve_forever()


asyncio.run(serve())
