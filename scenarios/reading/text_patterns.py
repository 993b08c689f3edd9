"""What texts of files may hold, as patterns, and how each is put right."""

from __future__ import annotations

ADAPTER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._/@+-]*$"
DNS_LABEL = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
"""A name of Kubernetes (RFC 1123); at most 63 characters."""
ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"
IMAGE = r"^[A-Za-z0-9][A-Za-z0-9._/:@+-]*$"
ABSOLUTE_PATH = r"^/[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
BUCKET = r"^(s3|gs|abfss|azure)://[A-Za-z0-9](/?[A-Za-z0-9._@-])*/?$"
HOST = r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$"
RESOURCE = r"^[a-z0-9]([a-z0-9./-]*[a-z0-9])?$"
USER = r"^[a-z_][a-z0-9_-]*$"
COMMAND = r"^[A-Za-z0-9_./-]+$"
FILE_STEM = r"^[a-z][a-z0-9_]*$"

REMEDIES = {
    ADAPTER_NAME: "start with a letter or digit; use letters, digits and . _ / @ + - only",
    DNS_LABEL: "use lower-case letters, digits and - within, as in a DNS label: ml-prod",
    ONE_LINE: "write it on one line, without control characters",
    IMAGE: "give an image as REGISTRY/NAME:TAG, with letters, digits and . _ / : @ + - only",
    ABSOLUTE_PATH: "give a whole path on one line, which begins with /",
    BUCKET: "give a bucket as s3://NAME/PATH, gs://, abfss:// or azure://",
    HOST: "give the name or the IPv4 address of a host: letters, digits, . and - within",
    RESOURCE: "use lower-case letters, digits and . / - within, as in nvidia.com/gpu",
    USER: "use lower-case letters, digits, _ and -, and begin with a letter or _",
    FILE_STEM: "use lower-case letters, digits and _, as in run_1",
    COMMAND: "give a command or its path, with letters, digits and . _ / - only",
}
"""What to give, by the pattern that a text does not keep."""
