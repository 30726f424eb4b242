"""Make other files of a recording: video, tables, DICOM and a summary. All of them count the same frames.

Frame n of the video is row n of the table, frame n + 1 of the DICOM clip and of its segmentation, and frame n
of the summary: every recorded frame of the source is there, also those that were not analysed.
"""
