"""`python -m spinemat_bringup`: the command line."""

from spinemat_bringup.cli import main

main(prog_name="spinemat")
