"""Files that are written: whole or not at all, through temporary ones that nobody has to clear away."""

from scenarios.output.temporary import remove_leftovers as remove_leftovers
from scenarios.output.temporary import temporary_folder as temporary_folder
from scenarios.output.writing import OutputFileError as OutputFileError
from scenarios.output.writing import check_writable as check_writable
from scenarios.output.writing import descriptor_of as descriptor_of
from scenarios.output.writing import same_file as same_file
from scenarios.output.writing import write_whole as write_whole
