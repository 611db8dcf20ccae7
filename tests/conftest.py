"""Shared by all tests."""

# Imported before anything is collected. pytest takes the repository root, which holds an __init__.py,
# for a package named after its folder: in a checkout called `ohmostat` it would import the tree under
# that name, and the tests would run against it instead of the installed package.
import ohmostat  # noqa: F401
