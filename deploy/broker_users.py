"""Makes RabbitMQ's users for docker-compose.yml, each with a random password and with the permissions that it needs.

Run once, by the service `credentials`: `python broker_users.py /run/otpost`. The passwords never stand in a file of the
repository, in an environment variable or on a command line. It needs nothing but Python's own library, and leaves alone
what is there already. In the folder are then

- `rabbitmq.conf`, `advanced.config` and `definitions.json`, which RabbitMQ reads at each start: users, permissions,
  passwords' hashes, and what the delay ladder needs;
- `worker.url`, `webhook.url`, `producer.url`, `operator.url`: what `OTPOST_BROKER_URL_FILE` names, readable by their
  owner only;
- `simulator.token`: an access token for the simulator, which takes any;
- `webhook.app_secret`, `webhook.verify_token`: what webhooks are signed with where there is no account.

With a second folder, `python broker_users.py /run/otpost /var/lib/otpost`, it makes `private.key` there, with which
workers open sealed codes: apart from the passwords, which may be made anew, as it may not be.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

# At-least-once dead lettering tries again what had no confirm, only 3 minutes later by default: too late for a code
# that fell from one level of the delay ladder while the level below was not up yet. rabbitmq.conf has no key for it.
ADVANCED_CONFIG = "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 5000}]}].\n"


@dataclass(frozen=True)
class Role:
    """A RabbitMQ user's permissions: regular expressions of the names that it may configure, write and read."""

    configure: str
    write: str
    read: str
    tags: tuple[str, ...] = ()


# docs/deployment.md explains each.
ROLES = {
    "producer": Role(
        configure=r"^reply\.otpost\.",
        write=r"^otpost\.jobs(\.|$)",
        read=r"^(otpost\.results$|reply\.otpost\.)",
    ),
    "worker": Role(
        configure=r"^otpost\.",
        write=r"^(otpost\.|amq\.default$)",
        read=r"^otpost\.",
    ),
    # The address of the default exchange is how it reaches its queue.
    "webhook": Role(
        configure=r"^otpost\.webhooks$",
        write=r"^(otpost\.webhooks|amq\.default)$",
        read=r"^$",
    ),
    "operator": Role(
        configure=r"^(otpost|reply\.otpost)\.",
        write=r"^(otpost\.|amq\.default$)",
        read=r"^(otpost|reply\.otpost)\.",
        tags=("monitoring",),
    ),
}


def password_hash(password: str, salt: bytes) -> str:
    """Hash a password as RabbitMQ stores it; *salt* is 4 bytes."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def definitions(hashes: dict[str, str], vhost: str) -> dict[str, object]:
    """Describe the roles' users on *vhost*, as RabbitMQ imports them; *hashes* by role."""
    return {
        "vhosts": [{"name": vhost}],
        "users": [
            {
                "name": name,
                "password_hash": hashes[name],
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": list(role.tags),
            }
            for name, role in ROLES.items()
        ],
        "permissions": [
            {"user": name, "vhost": vhost, "configure": role.configure, "write": role.write, "read": role.read}
            for name, role in ROLES.items()
        ],
    }


def write(path: Path, text: str, mode: int) -> None:
    """Write the file as a whole or not at all; nobody can read it before its mode is set."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
    unfinished.chmod(mode)
    unfinished.rename(path)


def make(folder: Path, host: str) -> bool:
    """Write all files for a broker at *host*; False where they are there already."""
    last = folder / "rabbitmq.conf"
    if last.exists():
        return False
    passwords = {name: secrets.token_urlsafe(24) for name in ROLES}
    for name, password in passwords.items():
        write(folder / f"{name}.url", f"amqp://{name}:{password}@{host}:5672/\n", 0o400)
    write(folder / "simulator.token", f"simulator-{secrets.token_urlsafe(24)}\n", 0o400)
    write(folder / "webhook.app_secret", f"{secrets.token_hex(16)}\n", 0o400)
    write(folder / "webhook.verify_token", f"{secrets.token_urlsafe(24)}\n", 0o400)
    hashes = {name: password_hash(password, secrets.token_bytes(4)) for name, password in passwords.items()}
    # RabbitMQ is another user, but of our group.
    write(folder / "definitions.json", json.dumps(definitions(hashes, "/"), indent=2) + "\n", 0o440)
    write(folder / "advanced.config", ADVANCED_CONFIG, 0o440)
    write(last, f"load_definitions = {folder}/definitions.json\n", 0o440)
    return True


def make_key(folder: Path) -> None:
    """Write a worker's private key, unless there is one: any 32 random bytes are one."""
    key = folder / "private.key"
    if not key.exists():
        write(key, f"otpost-private:{base64.b64encode(secrets.token_bytes(32)).decode()}\n", 0o400)


def main(arguments: list[str]) -> int:
    """Make the files in the folders that are named."""
    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: broker_users.py FOLDER [FOLDER OF THE KEY]\n")
        return 2
    folder = Path(arguments[0])
    try:
        made = make(folder, "rabbitmq")
        for folder in map(Path, arguments[1:]):
            make_key(folder)
    except OSError as error:
        sys.stderr.write(
            f"broker_users.py: {folder} cannot be written: {error.strerror}; mount a volume there that belongs to "
            f"user {os.getuid()}\n"
        )
        return 1
    sys.stdout.write(f"users of RabbitMQ: {'made' if made else 'there already'}, in {arguments[0]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
