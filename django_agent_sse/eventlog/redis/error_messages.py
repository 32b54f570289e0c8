"""What a Redis that cannot be used says, and what to do about it: sentences that name the setting."""

from __future__ import annotations

NOTHING = "Nothing was appended"
"""What every such sentence ends with, where that is certain."""
_MEANINGS = (
    (
        ("NOAUTH", "WRONGPASS", "invalid password", "invalid username", "AUTH ", "Authentication required", "unauthenticated"),
        "refuses the password",
        "put the right one there",
    ),
    (
        ("NOPERM", "NoPermissionError"),
        "lets this user not do what the log needs",
        "the documentation's page howto/redis lists the commands",
    ),
    (
        ("READONLY", "ReadOnlyError", "read only replica", "You can't write against"),
        "is a read-only replica",
        "name the primary, or Sentinels",
    ),
    (("MISCONF",), "cannot write its snapshot to disk and so takes no writes", "look at its log and its disk"),
    (("NOREPLICAS",), "has fewer replicas than its min-replicas-to-write", "bring them back"),
    (
        ("OOM ", "OutOfMemoryError", "out of memory"),
        "has no memory left (maxmemory)",
        "raise it, or lower MAX_EVENTS, MAX_BYTES or MAX_AGE",
    ),
    (
        ("WRONGTYPE",),
        "holds something else under a key of the log",
        "choose another AGENT_SSE['EVENT_LOG']['OPTIONS']['prefix'], or remove that key",
    ),
    (("BUSY ",), "runs a script of somebody else for a long time", "wait, or end it with SCRIPT KILL"),
    (("SCRIPT KILL", "Script killed"), "was told to end the script", "publish again"),
    (("LOADING", "BusyLoadingError"), "still loads its data", "wait"),
    (
        ("CROSSSLOT", "MOVED ", "MovedError", "CrossSlotError", "CLUSTERDOWN"),
        "is part of a Redis Cluster, which is not supported",
        "list several single servers in 'url' instead",
    ),
    (("MASTERDOWN", "MasterNotFoundError", "No master found"), "has no primary now", "wait for the failover to end"),
)
"""By signs in what a server or redis-py says: what that means, and what to do."""


def explained(error: BaseException | None, named: str) -> str:
    """A sentence: what happened, at which setting, and what to do."""
    text = f"{str(error) or type(error).__name__:.300}"
    said = f"{type(error).__name__} {text}"  # redis-py strips the code of an error that it has a class for
    for signs, what, hint in _MEANINGS:
        if any(sign in said for sign in signs):
            return f"the server of {named} {what} ({text}): {hint}. {NOTHING}"
    if "imeout" in text or "imed out" in text:
        return (
            f"the server of {named} did not answer in time ({text}): what was asked may still have been done. Publish with key=, "
            "and a second try is safe"
        )
    if type(error).__name__ == "ResponseError":
        return f"the server of {named} refuses a command of the log ({text}): is it Redis 6.2 or Valkey 7.2, at least?"
    return f"cannot reach the server of {named} ({text}): is it up, and is that its address? {NOTHING}"
