"""Sound, its features, the speech that ships, and lesson 46's own functions."""

import io

import librosa
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from scipy.stats import poisson

from helpers import convert, data, features, sound, speech, voices
from helpers.convert_streaming import calibration_windows
from helpers.runtime_litert import open_interpreter
from helpers.runtime_streaming import open_stream
from helpers.twins import keras_twin

FULL = 32768


@pytest.fixture(scope="module")
def lesson():
    return definitions("46_keyword_spotting")


@pytest.fixture(scope="module")
def real():
    return speech.real_digits()


# --- sound ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "rate", "error", "says"),
    [
        (np.zeros(8, np.float32), 16000, ValueError, "16000 samples a second"),
        (np.zeros((8, 2), np.float32), 8000, ValueError, "stereo"),
        (np.zeros(0, np.float32), 8000, ValueError, "empty"),
        (np.zeros(8, np.uint8), 8000, TypeError, "uint8"),
        (np.zeros(8, np.int32), 8000, TypeError, "int32"),
        (np.zeros(8, complex), 8000, TypeError, "complex"),
        (np.array([0, np.nan]), 8000, ValueError, "NaN"),
        (np.array([0, np.inf]), 8000, ValueError, "infinity"),
        (np.array([0, 20000.0]), 8000, ValueError, "32,768"),
    ],
)
def test_a_faulty_sound_is_refused_by_name(samples, rate, error, says):
    with pytest.raises(error, match=says):
        sound.as_samples(samples, rate)


@given(st.lists(st.integers(-FULL, FULL - 1), min_size=1, max_size=50))
def test_int16_and_floats_mean_the_same(values):
    ints = np.array(values, np.int16)
    made = sound.as_samples(ints, 8000)
    assert made.dtype == np.float32 and np.array_equal(made * FULL, ints)
    assert np.array_equal(sound.as_samples(ints / FULL, 8000), made)


@given(st.integers(1, 20000), st.one_of(st.none(), st.integers(-10000, 20000)))
def test_one_second_keeps_what_fits(length, start):
    x = np.arange(1, length + 1, dtype=np.float32) / length
    made = sound.one_second(x, start)
    kept = made[made > 0]
    assert made.shape == (8000,) and len(kept) == min(length, 8000)
    assert np.array_equal(kept, x[-len(kept) :])  # the loudest second is the last one


def test_trimming_and_clipping():
    assert len(sound.trimmed(np.zeros(5, np.float32))) == 5  # silence stays
    assert sound.clipped_share(np.array([1, -1, 0.5, 0])) == 0.5


def test_a_tone_keeps_its_pitch_when_it_is_resampled():
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    made = sound.resampled(tone, 16000)
    assert len(made) == 8000 and abs(np.fft.rfft(made)).argmax() == 440
    with pytest.raises(ValueError, match="above 0"):
        sound.resampled(tone, 0)


def test_what_is_no_sound_file_is_refused():
    with pytest.raises(ValueError, match="no sound file"):
        sound.decoded(b"not a sound")
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((10, 2)), 8000, format="WAV")
    with pytest.raises(ValueError, match="stereo"):
        sound.as_samples(*sound.decoded(buffer.getvalue()))


# --- features ---------------------------------------------------------------------------------


def by_librosa(x):
    options = dict(sr=8000, n_fft=256, hop_length=160, center=False, n_mels=32)
    options |= dict(fmin=60, fmax=3800, htk=True, norm=None)
    return np.log(librosa.feature.melspectrogram(y=x, **options) + 0.001).swapaxes(-1, -2)


@settings(max_examples=25, deadline=None)
@given(st.integers(256, 9000), st.integers(0, 10**6), st.floats(1e-4, 1))
def test_features_equal_librosas(length, seed, loudness):
    x = (loudness * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)
    ours = features.log_mel(x)
    assert ours.shape == (1 + (length - 256) // 160, 32)
    assert np.allclose(ours, by_librosa(x), atol=1e-5)


def test_features_of_the_shipped_sounds_equal_librosas(real, lesson):
    ours = features.log_mel(real.sounds)
    assert abs(ours - by_librosa(real.sounds)).max() < 1e-5
    by_hand = np.stack([lesson.log_mel_by_hand(x) for x in real.sounds[::10]])
    assert abs(by_hand - ours[::10]).max() < 1e-5


def test_every_band_has_a_bin():
    filters = features.mel_filters()
    assert filters.shape == (32, 129) and (filters.max(1) > 0.3).all() and filters.max() <= 1


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="256"):
        features.log_mel(np.zeros(255))


@given(st.floats(-3, 3))
def test_loudness_drops_out_of_the_bytes(shift):
    mels = np.random.default_rng(0).uniform(-2, 2, (49, 32))
    assert np.abs(features.as_bytes(mels).astype(int) - features.as_bytes(mels + shift)).max() <= 1
    assert (features.as_bytes(np.zeros((49, 32)) + shift) == 128).all()


# --- what ships -------------------------------------------------------------------------------


def test_the_digits_are_what_they_say(real):
    assert real.sounds.shape == (70, 8000) and real.sounds.dtype == np.float32
    assert (real.labels // 10 == real.languages).all() and len(set(real.people)) == 6
    synthetic = speech.synthetic_digits()
    assert np.bincount(synthetic.labels).tolist() == [6] * 50
    assert all(abs(x).max() > 0.05 for x in (*real.sounds, *synthetic.sounds))


def test_other_names_are_refused():
    for function in (speech.sentences, speech.network):
        with pytest.raises(ValueError, match="nobody"):
            function("nobody")
    with pytest.raises(TypeError, match="float64"):
        speech.as_input(speech.network("SpeechGRU_augmented_0"), np.zeros((1, 49, 32)))
    with pytest.raises(ValueError, match="expected"):
        speech.as_input(speech.network("SpeechGRU_augmented_0"), np.zeros((49, 32), np.uint8))


def test_a_damaged_sound_is_a_data_error(monkeypatch, tmp_path):
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech/carlo_it_digits.flac").write_bytes(b"no")
    (tmp_path / "SHA256SUMS").write_text((data.DATA / "SHA256SUMS").read_text())
    monkeypatch.setattr(data, "DATA", tmp_path)
    with pytest.raises(data.DataError, match="carlo_it_digits"):
        speech._sound("carlo_it_digits.flac")


def test_the_card_says_what_the_networks_are():
    card = speech.card()
    assert card["trained_on"] == 4500 and len(card["networks"]) == 9
    assert not set(card["voices"]["test"].split()) & set(card["voices"]["fit"].split())
    assert tuple(card["voices"]["test"].split()) == speech.HELD_OUT
    for name, said in card["networks"].items():
        model = speech.network(name)
        assert sum(p.numel() for p in model.parameters()) == said["parameters"]


def test_a_cnn_for_another_size_has_a_twin(real):
    model = speech.network("SpeechCNN_augmented_0")
    x = speech.as_input(model, features.as_bytes(features.log_mel(real.sounds[:5])))
    twin = keras_twin(model)
    assert twin.input_shape == (None, 49, 32, 1)
    with torch.no_grad():
        ours = model(x).numpy()
    assert np.allclose(twin(x.numpy().transpose(0, 2, 3, 1)).numpy(), ours, atol=1e-3)


def test_a_gru_with_other_sizes_streams(real):
    model = speech.network("SpeechGRU_augmented_0")
    q = features.as_bytes(features.log_mel(real.sounds[:8]))
    with torch.no_grad():
        ours = model(speech.as_input(model, q)).numpy()
    stream = open_stream(convert.to_streaming_tflite(model, "float32"))
    assert np.allclose(stream.predict((q / 255).astype(np.float32)), ours, atol=1e-3)
    with pytest.raises(ValueError, match="time, 32"):
        calibration_windows(np.zeros((1, 9, 6), np.float32), "int8", 32)


def test_an_operator_without_outputs_is_opened():
    wake = open_interpreter(speech.wake_word(), "BUILTIN", 1)
    (given_,) = wake.get_input_details()
    assert given_["shape"].tolist() == [1, 3, 40]


# --- the synthesizer --------------------------------------------------------------------------

needs_voices = pytest.mark.skipif(bool(voices.missing()), reason=voices.missing() or "here")


@needs_voices
def test_a_voice_says_nearly_the_same_twice():
    said = [voices.speak("7", voices.Voice("it+f3", 150)) for _ in range(2)]
    assert abs(len(said[0]) - len(said[1])) < 100
    assert 0.2 < len(said[0]) / 8000 < 1 and abs(said[0]).max() > 0.1


@needs_voices
def test_an_unknown_voice_is_refused():
    with pytest.raises(ValueError, match="no voice"):
        voices.speak("7", voices.Voice("klingon-x"))


@needs_voices
def test_a_recipe_trains():
    from helpers import speech_zoo

    sounds = [voices.speak(str(d), voices.Voice("it", s)) for s in (140, 170) for d in range(10)]
    labels = np.tile(np.arange(30, 40), 2)
    model = speech_zoo.train(
        "SpeechGRU_augmented_0", sounds, labels, epochs=80, batch_size=20, augment=False
    )
    x = speech_zoo.features(sounds)
    assert speech_zoo.score(model, x, labels, np.full(20, 3)) > 0.7
    heard = speech_zoo.as_if_recorded(sounds[0], np.random.default_rng(0))
    assert heard.shape == (8000,) and np.isfinite(heard).all() and abs(heard).max() < 2


# --- the lesson's functions -------------------------------------------------------------------


def test_the_filters_are_librosas(lesson):
    theirs = librosa.filters.mel(
        sr=8000, n_fft=256, n_mels=32, fmin=60, fmax=3800, htk=True, norm=None
    )
    assert np.allclose(lesson.mel_filters(), theirs, atol=1e-6)


@given(st.integers(0, 40))
def test_the_interval_covers_as_garwood_says(count):
    low, high = definitions("46_keyword_spotting").upper_and_lower(count, 2.0)
    assert np.isclose(poisson.cdf(count, 2 * high), 0.025)
    assert count == 0 or np.isclose(poisson.sf(count - 1, 2 * low), 0.025)


def test_an_alarm_rests(lesson):
    p = np.zeros((30, 11))
    p[:, 3] = 1.0
    assert lesson.alarms(p, 0.5, rest=10) == [(0, 3), (10, 3), (20, 3)]
    p[:, 3], p[:, 10] = 0.0, 1.0  # anything else raises none
    assert lesson.alarms(p, 0.5) == []
