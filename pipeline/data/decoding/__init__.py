"""Video files and folders of images to frames, in processes of their own."""
