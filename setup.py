"Everything is declared in settings.ini; this file only hands it to setuptools."

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
settings = parser["DEFAULT"]


def words(key):
    "The white-space separated words of a setting."
    return settings.get(key, "").split()


extras = {
    key.removesuffix("_requirements"): words(key)
    for key in settings
    if key.endswith("_requirements")
}

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    url=settings["git_url"],
    license="Apache-2.0",
    keywords=words("keywords"),
    python_requires=">=" + settings["min_python"],
    packages=find_packages(include=["seglab", "seglab.*"]),
    package_data={"seglab": words("package_data")},
    install_requires=words("requirements"),
    extras_require=extras,
    entry_points={"console_scripts": words("console_scripts")},
    zip_safe=False,
)
