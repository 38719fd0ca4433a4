"""The package index that pip is configured with, through the simple API (PEP 503, PEP 691), without pip."""

import configparser
import html
import json
import os
import re
import ssl
import urllib.parse
import urllib.request


def setting(name, default=None):
    """A setting of pip's: from the environment, else from its files."""
    value = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    if value:
        return value
    config = configparser.RawConfigParser()
    home = os.path.expanduser("~")
    files = ["/etc/pip.conf", home + "/.pip/pip.conf", home + "/.config/pip/pip.conf", os.environ.get("PIP_CONFIG_FILE")]
    config.read([file for file in files if file])
    return config.get("global", name, fallback=default)


def index_url():
    return setting("index-url", "https://pypi.org/simple").rstrip("/")


def get(url):
    """Address and bytes of what a URL leads to."""
    context = ssl.create_default_context(cafile=setting("cert"))
    headers = {"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.1"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=180, context=context) as answer:
        return answer.geturl(), answer.read()


def files_of(package):
    """Addresses of the files of a package."""
    page, body = get(f"{index_url()}/{package}/")
    try:
        links = [file["url"] for file in json.loads(body)["files"]]
    except ValueError:
        links = [html.unescape(link) for link in re.findall(r'href="([^"]+)"', body.decode())]
    return [urllib.parse.urljoin(page, link).split("#")[0] for link in links]
