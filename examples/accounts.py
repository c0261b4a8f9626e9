"""Blueprints: groups of handlers that live in modules of their own, put together by one app.

Serve it:
  DAEBUS_URL=embedded:// daebus run examples.accounts:make_app --workers 20

Use it, in another terminal:
  DAEBUS_URL=embedded:// daebus call accounts users.create '{"name": "ada"}'
  DAEBUS_URL=embedded:// daebus call accounts billing.invoice '{"name": "ada", "cents": 1250}'
"""

from daebus import Blueprint, Daebus

users = Blueprint("users")
billing = Blueprint("billing")

known: set[str] = set()


@users.action("users.create")
def create(name: str) -> dict[str, object]:
    is_new = name not in known
    known.add(name)
    return {"name": name, "is_new": is_new}


@billing.action("billing.invoice")
def invoice(name: str, cents: int) -> dict[str, object]:
    if name not in known:
        raise LookupError(f"there is no user {name!r}")
    return {"name": name, "amount": f"{cents / 100:.2f}"}


def make_app() -> Daebus:
    app = Daebus("accounts")
    app.register_blueprint(users)
    app.register_blueprint(billing)
    return app


if __name__ == "__main__":
    make_app().run()
