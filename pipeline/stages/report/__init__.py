"""Stage 6: the page, one folder of HTML on which a person sees what was found, missed and falsely raised."""
